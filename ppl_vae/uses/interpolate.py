"""Paths through the latent space from one datum to another."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.display.readable import readable
from ppl_vae.errors import InputError
from ppl_vae.estimator import VariationalInference
from ppl_vae.inference.options import check_value
from ppl_vae.program import LatentPoint
from ppl_vae.uses.description import Caption, describe_use
from ppl_vae.uses.points import LatentMap, average, collect, with_latents

PathName = Literal["line", "circle"]


@readable
class Interpolation(NamedTuple):
    """Data along paths through the latent space."""

    weights: np.ndarray
    """Share of the way, 0 at the start and 1 at the end, ``(T,)``."""
    means: dict[str, np.ndarray]
    """Mean of x given z at each point, ``(T, N, ...)`` by observed site; of classes, their probabilities, behind
    these dimensions."""


@describe_use("latents", interpolate=Caption("uses", "Interpolation", "Means on the way between two data."))
def interpolate(
    vi: VariationalInference, start: Any, end: Any, *, num_steps: int = 9, path: PathName = "line"
) -> Interpolation:
    r"""Decode points on paths between the posterior means of two data.

    .. math::
        z_t = (1 - t)\, a + t\, b \qquad\text{or}\qquad
        z_t = r_t \Bigl( \frac{\sin((1 - t)\,\omega)}{\sin\omega} \frac{a}{\|a\|}
        + \frac{\sin(t\,\omega)}{\sin\omega} \frac{b}{\|b\|} \Bigr), \quad
        r_t = (1 - t) \|a\| + t \|b\|, \quad \cos\omega = \frac{a^\top b}{\|a\| \|b\|}

    The line is in unconstrained space. The great circle is around the prior's mean, in units of its standard deviation.
    It stays at the distance from the mean where a Gaussian prior of many dimensions has its mass, while the line passes
    near the mean, where the prior has none. A discrete latent has the value of the start with probability 1 - t, and
    the value of the end otherwise. Conditions, such as labels, are those of the start.

    Source: Shoemake, Animating Rotation with Quaternion Curves (1985), section 3.3; White, Sampling Generative Networks
    (2016), section 2, for ends at the same distance.

    Args:
        vi: a fitted program.
        start: ``N`` data: an array, a tuple of arrays in the order of the model's arguments, or a mapping.
        end: the data at the other ends, one for each start.
        num_steps: number of points of a path with its ends, ``T``.
        path: line, or circle for the great circle.

    Raises:
        InputError: the numbers of data differ, or the program has no latents.

    Example:
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.vae import VAE
        >>> x = np.random.default_rng(0).integers(0, 2, (50, 6))
        >>> vi = VariationalInference(VAE(data_dim=6, latent_dim=2), max_epochs=1).fit(x)
        >>> interpolate(vi, x[:3], x[3:6], num_steps=5).means["x"].shape
        (5, 3, 6)
    """
    if num_steps < 2:
        raise InputError(f"num_steps is {num_steps}: expected 2 or more, for both ends are among them")
    check_value("path", path, PathName)
    begin, finish = (side if isinstance(side, tuple) else (side,) for side in (start, end))
    vi = with_latents(vi, begin)
    batch = collect(vi, begin)
    if len(batch[0]) != (number := len(collect(vi, finish)[0])):
        raise InputError(f"{len(batch[0])} data at the start and {number} at the end: give pairs")
    latent_map = LatentMap(vi)
    loc, scale = latent_map.prior(batch)
    first, last = (average(latent_map.draw(side)) for side in (begin, finish))
    weights = torch.linspace(0, 1, num_steps, dtype=loc.dtype, device=loc.device)
    t = weights[:, None, None]
    u = (1 - t) * first.u + t * last.u
    if path == "circle":
        u = loc + scale * great_circle((first.u - loc) / scale, (last.u - loc) / scale, t)
    share = weights.cpu().numpy()
    means = latent_map.decode(batch, LatentPoint(u, first.choices.expand(num_steps, -1, -1)))
    if latent_map.coordinates.listed:
        others = latent_map.decode(batch, LatentPoint(u, last.choices.expand(num_steps, -1, -1)))
        means = {name: ((1 - share) * mean.T + share * others[name].T).T for name, mean in means.items()}
    return Interpolation(share, means)


def great_circle(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Return points along the great circle from a to b, or along the line if their directions are equal or opposite.

    Example:
        >>> a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        >>> great_circle(a, b, torch.tensor([[0.0], [0.5]]))
        tensor([[1.0000, 0.0000],
                [0.7071, 0.7071]])
    """
    tiny = torch.finfo(a.dtype).tiny
    radius_a, radius_b = (side.norm(dim=-1, keepdim=True).clamp(min=tiny) for side in (a, b))
    one, other = a / radius_a, b / radius_b
    angle = (one * other).sum(-1, keepdim=True).clamp(-1, 1).arccos()
    sine = angle.sin()
    straight = sine < 1e-3
    sine = torch.where(straight, 1.0, sine)
    circle = (((1 - t) * angle).sin() * one + (t * angle).sin() * other) / sine
    return torch.where(straight, (1 - t) * a + t * b, ((1 - t) * radius_a + t * radius_b) * circle)
