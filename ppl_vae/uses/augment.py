"""New labelled data near given ones."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from ppl_vae.display.readable import readable
from ppl_vae.estimator import VariationalInference
from ppl_vae.inference.options import Count, check_value
from ppl_vae.program import Batch, BoundProgram, placed
from ppl_vae.uses.description import Caption, describe_use


@readable
class Augmented(NamedTuple):
    """New data, several for each given datum, one after the other."""

    arrays: dict[str, np.ndarray]
    """Arrays ``(N * copies, ...)`` by the names of the given ones: what a site observes is new, and everything else is
    that of the given datum."""
    rows: np.ndarray
    """Row of the given datum, ``(N * copies,)``."""


@describe_use(augment=Caption("uses", "Augmented data", "Data, and new ones drawn from their posteriors."))
def augment(
    vi: VariationalInference, *arrays: Any, copies: int = 4, what: Literal["sample", "mean"] = "sample"
) -> Augmented:
    r"""Draw new labelled data near given ones.

    .. math:: z \sim q(z \mid x_i), \qquad x' \sim p(x \mid z)

    Labels and other arrays that no site of the model observes stay with their data.

    Args:
        vi: a fitted program.
        arrays: the data, in the order of the model's arguments, or one mapping, which may have arrays that the model
            does not take, such as labels.
        copies: number of new data for each given one.
        what: sample draws x'; mean takes the mean of x given z, or the most probable class if x are classes.

    Raises:
        InputError: a site observes what the model computes of its arguments, so that nothing can be put back.

    Example:
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.vae import VAE
        >>> x, y = np.random.default_rng(0).integers(0, 2, (50, 6)), np.arange(50) % 3
        >>> more = augment(VariationalInference(VAE(data_dim=6, latent_dim=2), max_epochs=1).fit(x), {"x": x, "y": y})
        >>> more.arrays["x"].shape, more.arrays["y"][:5]
        ((200, 6), array([0, 0, 0, 0, 1]))
    """
    check_value("copies", copies, Count)
    check_value("what", what, Literal["sample", "mean"])
    named = vi.fitted.checked(arrays)
    count = len(vi.arguments_)

    def draw(program: BoundProgram, batch: Batch) -> Batch:
        draws = program.posterior(batch, copies)
        chosen = draws.observed if what == "sample" else draws.means
        if what == "mean":
            chosen |= {name: chosen[name].argmax(-1) for name in chosen.keys() & vi.fitted.classes.keys()}
        data = batch[:count]  # lambda may come after them
        parts = [placed(vi.program_, data, {k: v[i] for k, v in chosen.items()}) for i in range(copies)]
        return tuple(torch.stack(copied, 1).flatten(0, 1) for copied in zip(*parts, strict=True))

    new = [torch.cat(parts).cpu().numpy() for parts in zip(*vi.fitted.each_batch((named,), draw, copies), strict=True)]
    rows = np.arange(len(next(iter(named.values())))).repeat(copies)
    kept = {name: array[rows] for name, array in named.items()}
    return Augmented(kept | dict(zip(vi.arguments_, new, strict=True)), rows)
