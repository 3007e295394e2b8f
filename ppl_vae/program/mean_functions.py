"""The encoder and the decoder of a program as modules: from data to posterior means, from latents to means of data.

A module takes and returns tensors with a row per datum, ``(B, ...)``. Inside it the program runs on one datum, and
``torch.vmap`` is over the data: a program asks for ``len(x)``, which a graph would fix, so that the number of data is
free in this way alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.free_number import FreeNumberOfData
from ppl_vae.program.handlers import Generate, is_point_mass
from ppl_vae.program.known_moments import class_probabilities, known_mean
from ppl_vae.program.moments import unwrapped
from ppl_vae.program.runner import Batch
from ppl_vae.program.simulation import has_totals, observed_arguments
from ppl_vae.program.traces import Site, sample_sites

TOLERANCE = 1e-5
"""The largest difference, relative to the largest number, of means that are the same."""


class MeanFunction(nn.Module):
    """A function of a datum for many data at once, in the parameters of a program.

    Args:
        program: the program, whose modules are the module's own.
        of_one: the function, from the tensors of a batch of one datum to tensors ``(...)``.
        inputs: the names of its arguments.
        outputs: the names of its values.
        example: a few data, one tensor for each argument.
    """

    def __init__(
        self,
        program: BoundProgram,
        of_one: Callable[..., Sequence[Tensor]],
        inputs: Sequence[str],
        outputs: Sequence[str],
        example: Batch,
    ) -> None:
        super().__init__()
        self.program, self.module, self.of_one = program, program.module, of_one
        self.inputs, self.outputs, self.example = tuple(inputs), tuple(outputs), example

    def forward(self, *batch: Tensor) -> tuple[Tensor, ...]:
        """Return the values for ``B`` data, each ``(B, ...)``."""
        with FreeNumberOfData():
            return torch.vmap(lambda *row: tuple(self.of_one(*(tensor[None] for tensor in row))))(*batch)

    def one_by_one(self, *batch: Tensor) -> tuple[Tensor, ...]:
        """Return what ``forward`` does, by the program itself on a datum after the other."""
        rows = [self.of_one(*(tensor[i : i + 1] for tensor in batch)) for i in range(len(batch[0]))]
        return tuple(torch.stack(list(values)) for values in zip(*rows, strict=True))


class _Fixed(Messenger):
    """A handler that gives a site without a value its mean in place of a draw, moved by an offset if there is one."""

    def __init__(self, move: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.move = move

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or msg["done"] or msg["value"] is not None or site_is_subsample(msg):
            return
        mean = class_probabilities(msg["fn"])
        mean = msg["fn"].mean if mean is None else mean.argmax(-1)
        if self.move is not None and mean.is_floating_point() and not is_point_mass(msg["fn"]):
            mean = self.move(mean)
        msg["value"], msg["done"] = mean, True


def encoder_of(program: BoundProgram, names: Sequence[str]) -> MeanFunction:
    """Return the function from data to the mean of each latent under the guide, and the scale of those that are normal.

    The program has to run: call it within ``program.running(training=False)``.

    Args:
        program: the program with its guide.
        names: the names of the arrays of a datum.

    Raises:
        InputError: there is no such function in closed form.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(3, 6)
        >>> encoder = encoder_of(Program(VAE(data_dim=6, latent_dim=2)).bind((x,)), ["x"])
        >>> encoder.outputs, encoder(x)[0].shape
        (('z', 'z_scale'), torch.Size([3, 2]))
    """
    _refuse_shared(program)
    structure, batch = program.structure, program.template

    def sites_at(batch: Batch, move: Callable[[Tensor], Tensor] | None = None) -> dict[str, Site]:
        with _Fixed(move):
            sites = sample_sites(program.guide_trace(batch))
        return {name: site for name, site in sites.items() if name in structure.latents}

    with torch.no_grad():
        sample = sample_sites(program.guide_trace(batch))
        if not sample:
            raise InputError(f"{program.name} has no latents that a guide samples, and so no encoder to export")
        for name, site in sample.items():
            _check_mean(program, name, site)
        plain = sites_at(batch)
        means = {name: _mean(program, site) for name, site in plain.items()}
        scales = {name: _scale(program, site) for name, site in plain.items()}
        for _ in range(2):
            offsets: dict[tuple[int, ...], Tensor] = {}

            def offset(mean: Tensor, offsets: dict[tuple[int, ...], Tensor] = offsets) -> Tensor:
                return offsets.setdefault(tuple(mean.shape), torch.randn_like(mean))

            up = sites_at(batch, lambda mean, offset=offset: mean + offset(mean))  # type: ignore[misc]
            down = sites_at(batch, lambda mean, offset=offset: mean - offset(mean))  # type: ignore[misc]
            for name, mean in means.items():
                above, below = _mean(program, up[name]), _mean(program, down[name])
                if not same((above + below) / 2, mean):
                    raise InputError(
                        f"the posterior mean of {name!r} has no closed form: its guide depends on draws of other "
                        f"latents; export the decoder alone, parts=['decoder']"
                    )
                if scales[name] is not None and not same(above, mean):
                    scales[name] = None
    with_scale = [name for name, scale in scales.items() if scale is not None]

    def of_one(*row: Tensor) -> list[Tensor]:
        sites = sites_at(row)
        values = [_mean(program, sites[name])[0, 0] for name in means]
        return values + [_scale(program, sites[name])[0, 0] for name in with_scale]  # type: ignore[index]

    return MeanFunction(program, of_one, names, [*means, *(f"{name}_scale" for name in with_scale)], batch)


def decoder_of(program: BoundProgram, names: Sequence[str]) -> MeanFunction:
    """Return the function from latents, and from conditions such as labels, to the mean of each observed site.

    Of classes, it is their probabilities. The program has to run: call it within ``program.running(training=False)``.

    Args:
        program: the program.
        names: the names of the arrays of a datum.

    Raises:
        InputError: there is no such function in closed form.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> decoder = decoder_of(Program(VAE(data_dim=6, latent_dim=2)).bind((torch.zeros(3, 6),)), ["x"])
        >>> decoder.inputs, decoder.outputs, decoder(torch.zeros(5, 2))[0].shape
        (('z',), ('x',), torch.Size([5, 6]))
    """
    _refuse_shared(program)
    structure, template = program.structure, program.template
    latents = structure.latents
    if not latents:
        raise InputError(f"{program.name} has no latents, and so no decoder to export")
    drawn = [sample_sites(program.run(Generate()(program.model), template)) for _ in range(2)]
    observed = [name for name in structure.observed if drawn[0][name]["value"].numel()]  # pyro.factor observes nothing
    for name in observed:
        _check_mean(program, name, drawn[0][name])
    one = sample_sites(program.run(Generate()(program.model), tuple(tensor[:1] for tensor in template)))
    layout = {name: one[name] for name in latents}
    free = [has_totals(program) or not seen for seen in observed_arguments(program)]
    conditions = [place for place, is_free in enumerate(free) if is_free]

    def sites_of(row: Sequence[Tensor], fixed: bool = True) -> dict[str, Site]:
        batch = [tensor[:1] for tensor in template]
        for place, tensor in zip(conditions, row[len(latents) :], strict=True):
            batch[place] = tensor
        values = {}
        for name, z in zip(latents, row, strict=False):
            value = structure.from_front(layout[name], z[None], 1)
            values[name] = value.reshape(value.shape[value.dim() - layout[name]["value"].dim() :])
        with _Fixed() if fixed else nullcontext():
            return sample_sites(program.run(Generate()(program.model), tuple(batch), values=values))

    def of_one(*row: Tensor) -> list[Tensor]:
        sites = sites_of(row)
        return [_mean(program, sites[name])[0, 0] for name in observed]

    example = tuple(structure.value(drawn[0][name], 1)[0].detach() for name in latents)
    example += tuple(template[place] for place in conditions)
    first = tuple(tensor[:1] for tensor in example)
    with torch.no_grad():
        for _ in range(2):
            sites = sites_of(first, fixed=False)
            for name, mean in zip(observed, of_one(*first), strict=True):
                if not same(_mean(program, sites[name])[0, 0], mean):
                    raise InputError(
                        f"the mean of {name!r} given the latents has no closed form: it depends on draws of other data "
                        f"of the same datum; export the encoder alone, parts=['encoder']"
                    )
    inputs = [*latents, *(names[place] for place in conditions)]
    return MeanFunction(program, of_one, inputs, observed, example)


def same(one: Tensor, other: Tensor) -> bool:
    """Return True if two tensors are equal up to rounding, relative to the largest number or to 1."""
    return bool((one - other).abs().max() <= TOLERANCE * max(1.0, float(other.abs().max())))


def _refuse_shared(program: BoundProgram) -> None:
    if program.global_posterior is not None:
        raise InputError(
            f"the latent {program.global_posterior.names[0]!r} of {program.name} is shared by all data and has a "
            f"posterior of its own, so that means of a datum have no closed form and are not exported"
        )


def _check_mean(program: BoundProgram, name: str, site: Site) -> None:
    fn = site["fn"]
    if class_probabilities(fn) is None and known_mean(fn) is None:
        raise InputError(
            f"the site {name!r} of {program.name} is a {type(unwrapped(fn)).__name__}, whose mean is not known in "
            f"closed form, so that it cannot be exported"
        )


def _mean(program: BoundProgram, site: Site) -> Tensor:
    """Return the mean of a site, or the probabilities of its classes, ``(1, B, ...)``, without a look at the values."""
    fn = site["fn"]
    if (shares := class_probabilities(fn)) is not None:
        return program.structure.to_front(site, shares, 1, event_dim=fn.event_dim + 1)
    return program.structure.to_front(site, fn.mean, 1, event_dim=fn.event_dim)


def _scale(program: BoundProgram, site: Site) -> Tensor | None:
    """Return the standard deviation of a site that is normal, ``(1, B, ...)``; None for others."""
    fn = site["fn"]
    if not isinstance(unwrapped(fn), torch.distributions.Normal):
        return None
    return program.structure.to_front(site, fn.stddev, 1, event_dim=fn.event_dim)
