"""A latent space with data in it; every point can be decoded under the conditions of a datum, or under others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data import as_condition
from ppl_vae.errors import InputError, nearest
from ppl_vae.estimator import VariationalInference
from ppl_vae.program import (
    Batch,
    Coordinates,
    LatentPoint,
    draw_latents,
    draw_prior,
    has_exact_moments,
    posterior_moments,
)
from ppl_vae.uses.points import POSTERIOR_DRAWS, LatentMap, average, with_latents

MOST_OFFERED = 32
"""The most coordinates that are offered, those with the largest KL from the prior."""
MOST_NUMBERS = 2**24
"""The most numbers in the draws from the posteriors of all data: of many coordinates, each datum has fewer draws, and
then fewer data are taken."""
FEWEST_DRAWS = 16
"""The least number of draws of each datum for its posterior mean."""
DRAWS, FEWER_DRAWS = 256, 64
"""Number of draws from the posterior of one datum, and from its prior: at most, and the least of many coordinates."""
MOST_NUMBERS_OF_ONE = 2**19
"""The most numbers in these draws."""


class Decoded(NamedTuple):
    """The data to which ``K`` points of the latent space are decoded."""

    means: dict[str, np.ndarray]
    """Mean of x given z, ``(K, ...)`` by observed site; of classes, their probabilities, ``(K, ..., C)``; of a column
    of a table that has categories, the most probable one."""
    shares: dict[str, np.ndarray]
    """Probabilities of the categories of the columns of a table that have some, ``(K, n, C)`` by observed site."""
    nearest: np.ndarray
    """Numbers of the nearest data of each point, ``(K, M)``, the nearest first."""


class Neighbourhood(NamedTuple):
    """A datum in the latent space."""

    point: dict[str, float]
    """The posterior mean by coordinate; of a discrete one the number of its most probable value."""
    posterior: np.ndarray
    """Draws from the posterior of each coordinate that is offered, ``(K, M)``."""
    prior: np.ndarray
    """Draws from the prior under the conditions of the datum, ``(K, M)``; ``(0, M)`` if there is no prior."""


class ExploredSpace:
    r"""The latent space of a fitted program, with data in it.

    A point has the coordinates of ``ppl_vae.program.Coordinates``: continuous latents in unconstrained space, and
    choices among the values of discrete ones. A point of which some coordinates are not given has those of a datum's
    posterior mean, or of the prior's mean. It is decoded to

    .. math:: \mathbb E[x \mid z, c]

    under the conditions c of that datum, or under others that are given.

    Args:
        vi: a fitted program.
        arrays: the data.

    Attributes:
        names: the coordinates that are offered, those with the largest KL from the prior first, ``M`` of them.
        divergence: the KL of each from the prior, averaged over the data, ``(M,)``, nats; NaN for a code.
        size: the number of all coordinates.
        places: posterior means of the data in these coordinates, ``(N, M)``.
        spread: the range of most draws from the posteriors of all data, ``(2, M)``.
        has_prior: False for the code of an autoencoder.
        condition_names: the arguments of the model that no site observes and that are no latents.
        has_one_prior: True if the prior is the same for all data.

    Raises:
        InputError: the program has no continuous latent, or one that cannot be moved; or a latent is unknown.

    Example:
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.vae import VAE
        >>> x = np.random.default_rng(0).integers(0, 2, (50, 6))
        >>> vi = VariationalInference(VAE(data_dim=6, latent_dim=2), max_epochs=1).fit(x)
        >>> space = ExploredSpace(vi, {"x": x})
        >>> decoded = space.decode([{"z[0]": 1.0}, {"z[0]": -1.0, "z[1]": 0.5}])
        >>> decoded.means["x"].shape, decoded.nearest.shape
        ((2, 6), (2, 6))
    """

    def __init__(self, vi: VariationalInference, arrays: Mapping[str, Any]) -> None:
        self.has_prior = bool(vi.program_.structure.latents)
        self.vi = vi = with_latents(vi, (arrays,))
        self.map = LatentMap(vi)
        coordinates = self.map.coordinates
        if not coordinates.continuous:
            raise InputError(
                f"{vi.program_.name} has no continuous latent to explore: generate draws data for each value of a "
                f"discrete one, such as --{coordinates.names[0].partition('[')[0]} all"
            )
        self.size = len(coordinates.names)
        self.num_draws = min(DRAWS, max(FEWER_DRAWS, MOST_NUMBERS_OF_ONE // self.size))
        most = max(1, MOST_NUMBERS // (FEWEST_DRAWS * self.size))
        self.arrays = {name: array[:most] for name, array in arrays.items()}
        self.program, located, _ = vi.fitted.located(vi.fitted.checked((self.arrays,)))
        batches = vi.fitted.batches(located)
        self.batch = next(batches.in_order(batch_size=batches.num_data))
        self.data = self.batch[: len(vi.arguments_)]  # without lambda
        with self.map.running(self.program):
            self.posterior_coordinates = Coordinates(self.program)
        draws = self._draw_all()
        divergence = self.map.divergence(self.data, draws) if self.has_prior else torch.full((self.size,), torch.nan)
        self.order = divergence.argsort(descending=True, stable=True)[:MOST_OFFERED].tolist()
        self.names = tuple(coordinates.names[index] for index in self.order)
        self.divergence = divergence[self.order].cpu().numpy()
        self.centres = self._centres(draws)
        self.places = self._offered(self.centres)[0]
        self.spread = np.quantile(self._offered(draws), [0.005, 0.995], axis=(0, 1))
        self.condition_names = self._conditions()
        self.has_one_prior = not self.condition_names and vi.generates
        self._priors: dict[int, np.ndarray] = {}
        self._last: tuple[Any, tuple[Batch, Tensor, Tensor]] | None = None

    # ------------------------------------------------------------------------------------------ decoding

    def decode(
        self,
        points: Sequence[Mapping[str, float]],
        row: int = 0,
        conditions: Mapping[str, Any] | None = None,
        *,
        around_prior: bool = False,
        num_nearest: int = 6,
    ) -> Decoded:
        """Decode points of the latent space.

        Args:
            points: some coordinates of each point by name; the number of the value of a discrete latent.
            row: the datum whose posterior mean has the other coordinates, and which has the other conditions.
            conditions: conditions by name, such as ``{"y": 3}``.
            around_prior: if True, the other coordinates are those of the prior's mean under the conditions, and the
                first values of discrete latents.
            num_nearest: the number of nearest data. Distances are in standard deviations of the prior.

        Raises:
            InputError: a coordinate, a condition or a datum that does not exist, or a value that cannot be.
        """
        batch, loc, scale = self._under(row, conditions or {})
        u, choices = (part[:, row : row + 1].expand(len(points), -1, -1).clone() for part in self.centres)
        if around_prior:
            u, choices = loc.expand_as(u).clone(), torch.zeros_like(choices)
        for number, point in enumerate(points):
            for name, value in point.items():
                self._place(u[number, 0], choices[number, 0], name, value)
        draws = self.map.predict(batch, LatentPoint(u, choices))
        away = torch.cdist(u[:, 0] / scale, self.centres.u[0] / scale)
        means, shares = ({k: v[:, 0].cpu().numpy() for k, v in part.items()} for part in (draws.means, draws.shares))
        return Decoded(means, shares, away.argsort(1)[:, :num_nearest].cpu().numpy())

    def conditioned(self, row: int, conditions: Mapping[str, Any]) -> Batch:
        """Return the arguments of the model for a datum, with other conditions in place of its own."""
        if not 0 <= row < len(self.places):
            raise InputError(f"datum {row} does not exist: there are data 0 to {len(self.places) - 1}")
        for name in conditions:
            if name not in self.condition_names:
                raise InputError(f"the model takes no condition {name!r}; {nearest(name, self.condition_names)}")
        code = self.vi.fitted.naming.code
        return tuple(
            as_condition(name, code(name, conditions[name]), rows, 1) if name in conditions else rows[row : row + 1]
            for name, rows in zip(self.vi.arguments_, self.data, strict=True)
        )

    def _under(self, row: int, conditions: Mapping[str, Any]) -> tuple[Batch, Tensor, Tensor]:
        """Return the arguments of ``conditioned``, and the prior's mean and standard deviation; the last are kept."""
        key = row, {name: np.asarray(value).tolist() for name, value in conditions.items()}
        if self._last is None or self._last[0] != key:
            batch = self.conditioned(row, conditions)
            self._last = key, (batch, *self.map.prior(batch))
        return self._last[1]

    def _place(self, u: Tensor, choices: Tensor, name: str, value: float) -> None:
        """Set a coordinate of one point."""
        coordinates = self.map.coordinates
        if name not in coordinates.names:
            raise InputError(f"no latent dimension has the name {name!r}; {nearest(name, self.names)}")
        index = coordinates.names.index(name)
        if not isinstance(value, int | float) or not np.isfinite(value):
            raise InputError(f"{name} is {value!r}: expected a finite number")
        if index < coordinates.continuous:
            u[index] = value
            return
        count = len(coordinates.values[index - coordinates.continuous])
        if value != int(value) or not 0 <= value < count:
            raise InputError(f"{name} is {value!r}: expected the number of one of its values, 0 to {count - 1}")
        choices[index - coordinates.continuous] = int(value)

    # ------------------------------------------------------------------------------------------ data

    def neighbourhood(self, row: int) -> Neighbourhood:
        """Return a datum's posterior mean, and draws from its posterior and its prior."""
        self.conditioned(row, {})
        posterior = self._offered(self._posterior(slice(row, row + 1), self.num_draws))[:, 0]
        prior = self._prior(0 if self.has_one_prior else row) if self.has_prior else np.zeros((0, len(self.names)))
        return Neighbourhood(dict(zip(self.names, self.places[row].tolist(), strict=True)), posterior, prior)

    def _prior(self, row: int) -> np.ndarray:
        """Return draws from the prior under the conditions of a datum, ``(K, M)``, which are kept."""
        if row not in self._priors:
            program, batch = self.vi.program_, self.conditioned(row, {})
            with self.map.running(program):
                point = self.map.coordinates.locate(batch, draw_prior(program, batch, self.num_draws))
            self._priors[row] = self._offered(point)[:, 0]
        return self._priors[row]

    def prior_mean(self, row: int) -> dict[str, float]:
        """Return the mean of the prior under the conditions of a datum by coordinate; the first value of a choice."""
        _, loc, _ = self._under(row, {})
        point = LatentPoint(loc[None], torch.zeros_like(self.centres.choices[:, :1]))
        return dict(zip(self.names, self._offered(point)[0, 0].tolist(), strict=True))

    def is_moved(self, name: str) -> bool:
        """Return True if a coordinate is unconstrained, so that it is another number than its latent."""
        index = self.map.coordinates.names.index(name)
        return index < self.map.coordinates.continuous and self.map.coordinates.is_moved[index]

    def values_of(self, name: str) -> list[Any] | None:
        """Return the values of a discrete latent, or None for a continuous one."""
        choice = self.map.coordinates.names.index(name) - self.map.coordinates.continuous
        return None if choice < 0 else self.map.coordinates.values[choice].tolist()

    def _posterior(self, rows: slice, num_draws: int) -> LatentPoint:
        """Return draws from the posteriors of data, ``(K, B, ...)``."""
        batch = tuple(tensor[rows] for tensor in self.batch)
        with self.map.running(self.program):
            return self.posterior_coordinates.locate(batch, draw_latents(self.program, batch, num_draws))

    def _draw_all(self) -> LatentPoint:
        count = len(self.batch[0])
        num_draws = min(POSTERIOR_DRAWS, max(FEWEST_DRAWS, MOST_NUMBERS // (count * self.size)))
        at_once = self.vi.fitted.room.rows(num_draws)
        parts = [self._posterior(slice(row, row + at_once), num_draws) for row in range(0, count, at_once)]
        return LatentPoint(*(torch.cat(tensors, 1) for tensors in zip(*parts, strict=True)))

    def _centres(self, draws: LatentPoint) -> LatentPoint:
        """Return the posterior means, ``(1, N, ...)``: exact ones if these are known, else those of the draws."""
        coordinates = self.map.coordinates
        if coordinates.moved or coordinates.values or not has_exact_moments(self.program):
            return average(draws)
        with self.map.running(self.program):
            (mean,) = posterior_moments(self.program, self.batch).mean.values()
        return LatentPoint(mean.reshape(1, len(mean), -1), draws.choices[:1])

    def _offered(self, point: LatentPoint) -> np.ndarray:
        """Return the offered coordinates of points ``(K, B, ...)``: ``(K, B, M)``."""
        return torch.cat([point.u, point.choices.to(point.u)], -1)[..., self.order].cpu().numpy()

    def _conditions(self) -> tuple[str, ...]:
        """Return the arguments of the model that no site observes and that are no latents."""
        latents = self.vi.program_.structure.latents
        return tuple(name for name in self.vi.conditions if name in self.vi.arguments_ and name not in latents)
