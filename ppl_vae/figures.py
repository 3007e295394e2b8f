"""What a fit leaves to look at: posterior draws of some test data, and the figures."""

from __future__ import annotations

import numpy as np

from ppl_vae.data import Dataset, as_images, subset
from ppl_vae.estimator import VariationalInference
from ppl_vae.plots import elbo_over_epochs, latent_space, prior_samples, reconstructions
from ppl_vae.runs import Run, write_posterior

POSTERIOR_DATA, POSTERIOR_DRAWS = 256, 32
RECONSTRUCTIONS, PRIOR_DRAWS, LATENT_DATA = 20, 64, 5000


def write_posterior_draws(run: Run, vi: VariationalInference, data: Dataset) -> None:
    """``posterior.nc``: posterior and posterior-predictive draws of some test data, drawn at random."""
    chosen = some_test_data(vi, data, POSTERIOR_DATA)
    draws = vi.posterior(chosen, num_samples=POSTERIOR_DRAWS)
    write_posterior(
        run.path / "posterior.nc",
        posterior=draws.latents,
        posterior_predictive={name: _compact(array) for name, array in draws.observed.items()},
        observed_data={name: _compact(array) for name, array in draws.data.items()},
        rows=chosen["_row"],
    )


def write_figures(run: Run, vi: VariationalInference, data: Dataset) -> None:
    """``figures/``: the ELBO over epochs, reconstructions, draws from the prior, the latent space."""
    run.write_figure("elbo", elbo_over_epochs(run.metrics()))

    draws = vi.posterior(some_test_data(vi, data, RECONSTRUCTIONS), num_samples=32)
    site = max(draws.data, key=lambda name: int(draws.data[name][0].size))  # where several are observed, the picture
    shape = data.image_shape
    if shape is not None and draws.data[site][0].size != np.prod(shape):
        shape = None
    pairs = [as_drawn(draws.data[site], shape), as_drawn(draws.means[site].mean(0), shape)]
    run.write_figure("reconstructions", reconstructions(*pairs, image_shape=shape))
    samples = vi.sample(PRIOR_DRAWS, mean=True)
    samples = samples[site] if isinstance(samples, dict) else samples
    run.write_figure("prior", prior_samples(as_drawn(samples, shape), image_shape=shape))

    if draws.latents:
        chosen = some_test_data(vi, data, LATENT_DATA)
        labels = chosen.get("y")
        run.write_figure(
            "latents", latent_space(vi.transform(chosen), labels if labels is not None and labels.ndim == 1 else None)
        )


def some_test_data(vi: VariationalInference, data: Dataset, num_data: int) -> dict[str, np.ndarray]:
    """Test data drawn at random, for their part may be sorted; ``_row`` is the row of each."""
    rows = np.arange(len(next(iter(data.test.values()))))
    return subset({**data.test, "_row": rows}, num_data, vi.seed)


def as_drawn(x: np.ndarray, image_shape: tuple[int, ...] | None) -> np.ndarray:
    """Data as images, or as they are where they are none."""
    return x if image_shape is None else as_images(x, image_shape)


def _compact(array: np.ndarray) -> np.ndarray:
    """Bits as bytes, which take a quarter of the room."""
    return array.astype(np.int8) if np.isin(array, (0, 1)).all() else array
