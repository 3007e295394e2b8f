"""The data that a plane of the latent space decodes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.errors import InputError, nearest
from ppl_vae.estimator import VariationalInference
from ppl_vae.program import Coordinates, LatentPoint
from ppl_vae.uses._points import coordinates, draws_of, means_at, prior_of, whole
from ppl_vae.uses.description import Caption, describe_use
from ppl_vae.uses.traverse import divergences


class Manifold(NamedTuple):
    """A grid over two latent dimensions, or one row of one."""

    names: tuple[str, str]
    """Of the dimension that changes from left to right, and of the one from bottom to top; "" where there is none."""
    values: tuple[np.ndarray, np.ndarray]
    """Of the first, ``(T,)`` from left to right, and of the second, ``(R,)`` from top to bottom."""
    unconstrained: bool
    """Whether these are other numbers than those of the latents, in unconstrained space."""
    means: dict[str, np.ndarray]
    """The mean of x given z there, ``(R, T, ...)`` by observed site."""


@describe_use(
    "latents",
    "generation",
    manifold=Caption("uses", "The manifold", "Means over a grid of the latents, spaced as the prior is."),
)
def manifold(
    vi: VariationalInference,
    *arrays: Any,
    num_steps: int = 20,
    dimensions: Sequence[str] | None = None,
    **conditions: Any,
) -> Manifold:
    r"""Compute the means of x over a grid of two latent dimensions, in equal shares of the prior.

    .. math:: z_{ij} = \mu_0 + \sigma_0 \Bigl(\Phi^{-1}\bigl(\tfrac{j - 1/2}{T}\bigr),
        \Phi^{-1}\bigl(\tfrac{i - 1/2}{T}\bigr)\Bigr)

    with mean and standard deviation of the prior in unconstrained space, so that of a Gaussian prior each point stands
    for an equal share. A discrete latent takes each of its values. All other latents are at the mean of the prior, and
    discrete ones at their first value.

    Source: Kingma and Welling, Auto-Encoding Variational Bayes (2014), appendix A.

    Args:
        vi: a fitted program.
        arrays: data that tell which two dimensions carry most, where there are more than two; by default the few that a
            fit keeps.
        num_steps: ``T``.
        dimensions: names of one or two latent dimensions, such as ``("z[0]", "z[3]")``; the one that carries more goes
            from left to right.
        conditions: of a model that has them, such as ``y=3``.

    Raises:
        InputError: no latent, or an unknown dimension; a model that does not generate.

    Example:
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.vae import VAE
        >>> x = np.random.default_rng(0).integers(0, 2, (50, 6))
        >>> vi = VariationalInference(VAE(data_dim=6, latent_dim=2), max_epochs=1).fit(x)
        >>> grid = manifold(vi, num_steps=3)
        >>> grid.means["x"].shape, grid.values[0].round(2)
        ((3, 3, 6), array([-0.97,  0.  ,  0.97], dtype=float32))
    """
    if num_steps < 1:
        raise InputError(f"num_steps is {num_steps}: expected 1 or more")
    for name in conditions.keys() - set(vi.arguments_):
        free = [each for each in vi.conditions if each in vi.arguments_]
        raise InputError(f"a manifold is no place for the condition {name!r}; {nearest(name, free)}")
    batch = vi.fitted.conditioned(1, conditions)
    there = coordinates(vi)
    loc, scale = prior_of(vi, there, batch)
    if dimensions is None:
        dimensions = _most_used(vi, there, arrays)
    for name in dimensions:
        if name not in there.names:
            raise InputError(f"no latent dimension is called {name!r}; {nearest(name, there.names)}")
    if not 1 <= len(dimensions) <= 2:
        raise InputError(f"{len(dimensions)} dimensions given: a grid has one or two")
    across, *down = (there.names.index(name) for name in dimensions)
    columns = _values(there, across, num_steps, loc, scale)
    rows = _values(there, down[0], num_steps, loc, scale).flip(0) if down else columns[:1]
    u = loc[None].repeat(len(rows) * len(columns), 1, 1)
    choices = torch.zeros(len(u), 1, len(there.values), dtype=torch.long, device=u.device)
    grid = torch.cartesian_prod(rows, columns)
    for index, values in zip((across, *down), (grid[:, 1], grid[:, 0]), strict=False):
        if index < there.continuous:
            u[:, 0, index] = values
        else:
            choices[:, 0, index - there.continuous] = values.long()
    means = means_at(vi, there, batch, LatentPoint(u, choices))
    return Manifold(
        (dimensions[0], dimensions[1] if down else ""),
        (columns.cpu().numpy(), rows.cpu().numpy() if down else np.zeros(0)),
        there.moved,
        {name: mean.reshape(len(rows), len(columns), *mean.shape[2:]) for name, mean in means.items()},
    )


def _most_used(vi: VariationalInference, there: Coordinates, arrays: tuple[Any, ...]) -> list[str]:
    """Names of the two dimensions with the largest KL from the prior, or of all where there are no more."""
    if len(there.names) <= 2:
        return list(there.names)
    if not arrays:
        arrays = (vi.template,)
    found = divergences(vi, there, whole(vi, arrays), draws_of(vi, arrays))
    return [there.names[index] for index in found.argsort(descending=True)[:2].tolist()]


def _values(there: Coordinates, index: int, num_steps: int, loc: Tensor, scale: Tensor) -> Tensor:
    if index >= there.continuous:
        return torch.arange(len(there.values[index - there.continuous])).to(loc)
    share = (torch.arange(num_steps).to(loc) + 0.5) / num_steps
    return loc[0, index] + scale[0, index] * torch.special.ndtri(share)
