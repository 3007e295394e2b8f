"""The guide of a program that has none: a network from the data to lambda."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

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
            flat = array.reshape(len(array), -1).astype(float)
            within = np.nanmin(flat) >= 0 and np.nanmax(flat) <= 1
            means.append(np.zeros(flat.shape[1]) if within else np.nanmean(flat, 0))
            scales.append(np.ones(flat.shape[1]) if within else np.nanstd(flat, 0))
        encoder.standardise(torch.from_numpy(np.concatenate(means)), torch.from_numpy(np.concatenate(scales)))
    return with_encoder(space, posterior.distribution, encoder)
