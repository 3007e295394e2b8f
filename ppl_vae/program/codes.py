"""Programs that treat a value computed for each datum, such as the code of an autoencoder, as a latent."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.global_posterior import OF_DRAWS, hidden_run
from ppl_vae.program.runner import Batch
from ppl_vae.program.traces import Site, is_deterministic, lies_in


def with_code(program: BoundProgram, batch: Batch) -> BoundProgram | None:
    """Make a latent of the first ``pyro.deterministic`` in the data plate; return None if there is none.

    The guide puts a point mass at the computed value. In place of a prior, the latent has a Gaussian with the
    mean and the standard deviation of the codes of ``batch``. They show how far the code can sensibly be moved, and
    nothing else. Such a program has no evidence and no divergence, but its code can be inspected and moved.

    Args:
        program: a program without latents.
        batch: some data.

    Example:
        >>> from ppl_vae.models.autoencoder import Autoencoder
        >>> from ppl_vae.program import Program
        >>> x = torch.rand(5, 6)
        >>> with_code(Program(Autoencoder(data_dim=6, latent_dim=2)).bind((x,)), (x,)).structure.latents
        ('z',)
    """
    structure = program.structure
    with torch.no_grad(), program.running(seed=0, training=False):
        sites: list[Any] = list(poutine.trace(program.model).get_trace(*batch).nodes.values())
    computed = [
        site
        for site in sites
        if site["type"] == "sample"
        and is_deterministic(site)
        and site["value"].is_floating_point()
        and lies_in(site, structure.data_plate)
    ]
    if structure.latents or not computed:
        return None
    code, model = computed[0], program.model
    as_latent = _CodeAsLatent(code)

    def coded(*rows: torch.Tensor) -> Any:
        with as_latent:
            return model(*rows)

    def guide(*rows: torch.Tensor) -> None:
        with hidden_run():
            site: Any = poutine.trace(model).get_trace(*rows).nodes[code["name"]]
        frames = [frame for frame in site["cond_indep_stack"] if frame.vectorized and frame.name not in OF_DRAWS]
        with ExitStack() as stack:
            for frame in frames:
                stack.enter_context(pyro.plate(frame.name, frame.size, dim=frame.dim))
            pyro.sample(code["name"], dist.Delta(site["value"], event_dim=code["fn"].event_dim))

    return program.derive(model=coded, guide=guide, closed_form=None)


class _CodeAsLatent(Messenger):
    """A handler that makes a latent of the value that ``pyro.deterministic`` records at a site.

    Args:
        code: the site in a run on some data.
    """

    def __init__(self, code: Site) -> None:
        super().__init__()
        value, event_dim = code["value"], code["fn"].event_dim
        flat = value.reshape(-1, *value.shape[value.dim() - event_dim :])
        self.name, self.event_dim = code["name"], event_dim
        self.loc, self.scale = flat.mean(0), flat.std(0, correction=0).clamp(min=1e-6)

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] == self.name:
            fn = dist.Normal(self.loc, self.scale).to_event(self.event_dim)
            msg["fn"] = fn.expand(msg["fn"].batch_shape)
            msg["value"], msg["is_observed"], msg["infer"] = None, False, {}
