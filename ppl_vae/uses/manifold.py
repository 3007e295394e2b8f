"""The data to which a plane of the latent space is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ppl_vae.display.readable import readable
from ppl_vae.errors import InputError, nearest
from ppl_vae.estimator import VariationalInference
from ppl_vae.inference.options import Count, check_value
from ppl_vae.program import LatentPoint
from ppl_vae.uses.description import Caption, describe_use
from ppl_vae.uses.points import LatentMap, collect


@readable
class Manifold(NamedTuple):
    """A grid over two latent dimensions, or a row over one."""

    names: tuple[str, str]
    """Names of the dimension that changes from left to right, and of that from bottom to top; "" if there is none."""
    values: tuple[np.ndarray, np.ndarray]
    """Values of the first, ``(T,)`` from left to right, and of the second, ``(R,)`` from top to bottom."""
    unconstrained: bool
    """True if the values are in an unconstrained space, and differ from those of the latents."""
    means: dict[str, np.ndarray]
    """Mean of x given z at each point, ``(R, T, ...)`` by observed site; of classes, their probabilities, behind
    these dimensions."""


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
    r"""Decode a grid of two latent dimensions.

    .. math:: z_{ij} = \mu_0 + \sigma_0 \Bigl(\Phi^{-1}\bigl(\tfrac{j - 1/2}{T}\bigr),
        \Phi^{-1}\bigl(\tfrac{i - 1/2}{T}\bigr)\Bigr)

    with the mean and the standard deviation of the prior in unconstrained space, so that each point stands for an equal
    share of a Gaussian prior. A discrete latent takes each of its values. The other latents are at the mean of the
    prior, or at their first value if they are discrete.

    Source: Kingma and Welling, Auto-Encoding Variational Bayes (2014), appendix A.

    Args:
        vi: a fitted program.
        arrays: data that decide which two of more dimensions are taken; by default the few that a fit keeps.
        num_steps: number of values of a dimension, ``T``.
        dimensions: names of one or two latent dimensions, such as ``("z[0]", "z[3]")``, the first from left to right;
            by default the two with the largest KL from the prior.
        conditions: conditions of the model, such as ``y=3``.

    Raises:
        InputError: the program has no latents or does not generate, or a dimension is unknown.

    Example:
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.vae import VAE
        >>> x = np.random.default_rng(0).integers(0, 2, (50, 6))
        >>> vi = VariationalInference(VAE(data_dim=6, latent_dim=2), max_epochs=1).fit(x)
        >>> grid = manifold(vi, num_steps=3)
        >>> grid.means["x"].shape, grid.values[0].round(2)
        ((3, 3, 6), array([-0.97,  0.  ,  0.97], dtype=float32))
    """
    check_value("num_steps", num_steps, Count)
    vi.fitted.check_generates()
    for name in conditions.keys() - set(vi.arguments_):
        free = [condition for condition in vi.conditions if condition in vi.arguments_]
        raise InputError(f"a manifold is no place for the condition {name!r}; {nearest(name, free)}")
    batch = vi.fitted.conditioned(1, conditions)
    latent_map = LatentMap(vi)
    space = latent_map.coordinates
    loc, scale = latent_map.prior(batch)
    if dimensions is None:
        dimensions = _most_used(latent_map, arrays or (vi.template,))
    for name in dimensions:
        if name not in space.names:
            raise InputError(f"no latent dimension has the name {name!r}; {nearest(name, space.names)}")
    if not 1 <= len(dimensions) <= 2:
        raise InputError(f"{len(dimensions)} dimensions given: a grid has one or two")
    across, *down = (space.names.index(name) for name in dimensions)
    away = torch.special.ndtri((torch.arange(num_steps).to(loc) + 0.5) / num_steps)
    columns = latent_map.places(across, (loc, scale), away)[:, 0]
    rows = latent_map.places(down[0], (loc, scale), away)[:, 0].flip(0) if down else columns[:1]
    grid = torch.cartesian_prod(rows, columns)
    choices = torch.zeros(1, 1, len(space.values), dtype=torch.long, device=loc.device)
    point = latent_map.move(LatentPoint(loc[None], choices), across, grid[:, 1:])
    if down:
        point = latent_map.move(point, down[0], grid[:, :1])
    means = latent_map.decode(batch, point)
    return Manifold(
        (dimensions[0], dimensions[1] if down else ""),
        (columns.cpu().numpy(), rows.cpu().numpy() if down else np.zeros(0)),
        space.moved,
        {name: mean.reshape(len(rows), len(columns), *mean.shape[2:]) for name, mean in means.items()},
    )


def _most_used(latent_map: LatentMap, arrays: tuple[Any, ...]) -> list[str]:
    """Return the names of the two dimensions with the largest KL from the prior, or of all if there are no more."""
    names = latent_map.coordinates.names
    if len(names) <= 2:
        return list(names)
    divergence = latent_map.divergence(collect(latent_map.vi, arrays), latent_map.draw(arrays))
    return [names[index] for index in divergence.argsort(descending=True)[:2].tolist()]
