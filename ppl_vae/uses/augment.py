"""New labelled data near given ones."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from ppl_vae.errors import InputError
from ppl_vae.estimator import VariationalInference
from ppl_vae.program import Batch, BoundProgram, placed
from ppl_vae.uses.description import Caption, describe_use


class Augmented(NamedTuple):
    """New data, several for each given one, next to each other."""

    arrays: dict[str, np.ndarray]
    """By the names of the given arrays, ``(N * copies, ...)``: what is observed is new, all else is that of the datum
    that it came from."""
    rows: np.ndarray
    """The row of that datum, ``(N * copies,)``."""


@describe_use(augment=Caption("uses", "Augmented data", "Data, and new ones drawn from their posteriors."))
def augment(
    vi: VariationalInference, *arrays: Any, copies: int = 4, what: Literal["sample", "mean"] = "sample"
) -> Augmented:
    r"""Draw new labelled data from the posterior predictive of given ones.

    .. math:: z \sim q(z \mid x_i), \qquad x' \sim p(x \mid z)

    Labels and other arrays that no site of the model observes stay with their data.

    Args:
        vi: a fitted program.
        arrays: the data, in the order of the model's arguments, or one mapping, which may have arrays that the model
            does not take, such as labels.
        copies: new data for each.
        what: sample draws x'; mean takes the mean of x given z.

    Raises:
        InputError: what a site observes is no part of an argument, so that nothing can be put there.

    Example:
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.vae import VAE
        >>> x, y = np.random.default_rng(0).integers(0, 2, (50, 6)), np.arange(50) % 3
        >>> more = augment(VariationalInference(VAE(data_dim=6, latent_dim=2), max_epochs=1).fit(x), {"x": x, "y": y})
        >>> more.arrays["x"].shape, more.arrays["y"][:5]
        ((200, 6), array([0, 0, 0, 0, 1]))
    """
    if copies < 1:
        raise InputError(f"copies is {copies}: expected 1 or more")
    if what not in ("sample", "mean"):
        raise InputError(f"what={what!r} is unknown: sample or mean")
    named = vi.fitted.checked(arrays)
    count = len(vi.arguments_)

    def more(program: BoundProgram, batch: Batch) -> Batch:
        draws = program.posterior(batch, copies)
        chosen = draws.observed if what == "sample" else draws.means
        data = batch[:count]  # behind them may be lambda
        parts = [placed(vi.program_, data, {k: v[i] for k, v in chosen.items()}) for i in range(copies)]
        return tuple(torch.stack(each, 1).flatten(0, 1) for each in zip(*parts, strict=True))

    found = [
        torch.cat(parts).cpu().numpy() for parts in zip(*vi.fitted.each_batch((named,), more, copies), strict=True)
    ]
    rows = np.arange(len(next(iter(named.values())))).repeat(copies)
    kept = {name: array[rows] for name, array in named.items()}
    return Augmented(kept | dict(zip(vi.arguments_, found, strict=True)), rows)
