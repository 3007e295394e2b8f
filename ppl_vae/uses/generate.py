"""New data from the prior predictive."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ppl_vae.display.readable import readable
from ppl_vae.errors import InputError
from ppl_vae.estimator import VariationalInference
from ppl_vae.uses.description import Caption, describe_use
from ppl_vae.uses.points import LatentMap


@readable
class Generated(NamedTuple):
    """New data, and the latents that they were drawn from, ``(N, ...)`` by site."""

    means: dict[str, np.ndarray]
    """Means of x given z; of classes, their probabilities, ``(N, ..., C)``."""
    draws: dict[str, np.ndarray]
    """Draws of x given the same z."""
    latents: dict[str, np.ndarray]
    """The values of z."""


@describe_use("generation", generate=Caption("samples", "Generated data", "Draws from the prior predictive."))
def generate(vi: VariationalInference, num_data: int, *arrays: Any, **conditions: Any) -> Generated:
    r"""Draw new data from the prior predictive.

    .. math:: z \sim p(z), \qquad x \sim p(x \mid z)

    Args:
        vi: a fitted program.
        num_data: number of data, ``N``.
        arrays: data whose totals new data have, one after the other, if x are counts with a total, as the words of a
            document are; by default the first data of the fit, repeated.
        conditions: what is given and not drawn: arguments of the model that are no data, such as labels, or latents by
            name; one value for all data, or a row for each. The latents after a given one depend on it, those before it
            do not.

    Raises:
        InputError: the program does not have a condition, or does not generate.

    Example:
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.cvae import CVAE
        >>> x, y = np.eye(6).repeat(5, 0), np.arange(6).repeat(5)
        >>> vi = VariationalInference(CVAE(data_dim=6, num_classes=6, latent_dim=2), max_epochs=1).fit(x, y)
        >>> generate(vi, 4, y=3).draws["x"].shape
        (4, 6)
    """
    drawn = vi.prior(num_data, *arrays, **conditions)
    return Generated(drawn.means, drawn.observed, drawn.latents)


def listed_values(vi: VariationalInference, name: str) -> list[float | int]:
    """Return the values of a discrete latent.

    Raises:
        InputError: the latent has no list of single numbers.
    """
    listed = LatentMap(vi).coordinates.listed
    values = listed[name][0] if name in listed else None
    if values is None or values.dim() > 1:
        raise InputError(f"the latent {name!r} has no list of values: give some of them, such as 0,1,2")
    return values.tolist()
