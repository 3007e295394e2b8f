"""The guide of a program that has none: a network from the data to lambda."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ppl_vae.data.statistics import column_statistics
from ppl_vae.data.stored import StoredArray
from ppl_vae.inference.families import FamilyName, make_family
from ppl_vae.networks import DataEncoder
from ppl_vae.program import Batch, BoundProgram, LatentSpace, with_encoder, without_guide


def derive_encoder(
    program: BoundProgram, template: Batch, family: FamilyName = "diagonal", arrays: Sequence[np.ndarray] | None = None
) -> BoundProgram:
    """Return the program with an amortized guide derived from its model: an MLP, or convolutions for images.

    Before it is trained, the guide is the prior. Parameters are drawn from torch's generator.

    Args:
        program: the program; its guide, if it has one, is not used.
        template: a few data.
        family: name of the posterior's variational family.
        arrays: the training data, in the order of the batch, to standardise what the network sees; arrays of numbers
            between 0 and 1 stay as they are.

    Raises:
        InputError: the latents cannot be moved in unconstrained space.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> def model(x):
        ...     with pyro.plate("data", len(x)):
        ...         z = pyro.sample("z", dist.LogNormal(0.0, 1.0))
        ...         pyro.sample("x", dist.Poisson(z), obs=x)
        >>> from ppl_vae.program import Program
        >>> x = torch.ones(3)
        >>> derive_encoder(Program(model).bind((x,)), (x,)).log_weights((x,), num_samples=5).shape
        torch.Size([5, 3])
    """
    space = LatentSpace(without_guide(program))
    posterior = make_family(family, space.size)
    with torch.no_grad():
        origin = posterior.start(*space.start(template)).mean(0)
    encoder = DataEncoder([tensor.shape[1:] for tensor in template], origin).to(origin)
    if arrays is not None:
        means, scales = [], []
        for array in arrays:
            mean, scale = _mean_and_scale(array)
            means.append(mean)
            scales.append(scale)
        encoder.standardise(torch.from_numpy(np.concatenate(means)), torch.from_numpy(np.concatenate(scales)))
    return with_encoder(space, posterior.distribution, encoder)


def _mean_and_scale(array: np.ndarray | StoredArray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each number of a datum; 0 and 1 if all numbers are between 0 and 1."""
    if isinstance(array, StoredArray):
        low, high = np.inf, -np.inf

        def read() -> Iterator[dict[str, np.ndarray]]:
            nonlocal low, high
            for block in array.blocks():
                low, high = min(low, np.nanmin(block)), max(high, np.nanmax(block))
                yield {"x": block}

        of_array = column_statistics(read())["x"]
        within, mean, scale = low >= 0 and high <= 1, of_array.mean.ravel(), of_array.scale.ravel()
    else:
        flat = array.reshape(len(array), -1).astype(float)
        within = np.nanmin(flat) >= 0 and np.nanmax(flat) <= 1
        mean, scale = np.nanmean(flat, 0), np.nanstd(flat, 0)
    return (np.zeros(len(mean)), np.ones(len(mean))) if within else (mean, scale)
