"""The encoder of a program: noise on its input, against overfitting, and the parameters that are its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.model_parameters import model_parameters


def with_encoder_noise(program: BoundProgram, x: Tensor, share: float) -> BoundProgram:
    r"""Return the program whose guide sees some numbers of another datum; the model sees the data themselves.

    .. math::
        \mathbb E_{r(\tilde x \mid x)}\, \mathbb E_{q(z \mid \tilde x)}
        \Bigl[\log \frac{p(x, z)}{q(z \mid \tilde x)}\Bigr] \le \log p(x)

    Each number of the first array is replaced with this probability by that of the datum before it in the batch, so
    that a column keeps its values: bits remain bits, and counts remain counts. The objective is a lower bound on the
    evidence for every noise r. The noise is drawn here, so that every run of the guide has the same.

    Source: Im, Ahn, Memisevic and Bengio, Denoising Criterion for Variational Auto-Encoding Framework (2017), equation
    8, with other noise.

    Args:
        program: a program with a guide.
        x: the first array of the batch to which the program is applied.
        share: the probability.

    Raises:
        InputError: the program has no guide, or its data have holes.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> x = torch.ones(8, 6)
        >>> program = Program(VAE(data_dim=6, latent_dim=2)).bind((x,))
        >>> with_encoder_noise(program, x, 0.1).log_weights((x,), num_samples=3).shape
        torch.Size([3, 8])
    """
    guide = program.guide
    if guide is None:
        raise InputError(f"{program.name} has no guide whose input could be noisy: leave out encoder_noise")
    if program.parts is not None:
        raise InputError("encoder_noise takes data without holes: leave it out, or take --extra-missing, which hides")

    swapped = torch.rand(x.shape, device=x.device) < share

    def noisy(first: Tensor, *rest: Tensor) -> Any:
        return guide(torch.where(swapped, first.roll(1, 0), first), *rest)

    return program.derive(guide=noisy, structure=program.structure)


def encoder_parameters(program: BoundProgram) -> dict[str, Tensor]:
    """Return the parameters on which the density of the model does not depend at given latents.

    Raises:
        InputError: there is none, or latents are shared by all data.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> list(encoder_parameters(Program(VAE(data_dim=6, hidden=())).bind((torch.ones(8, 6),))))
        ['encoder.net.0.weight', 'encoder.net.0.bias']
    """
    program.refuse_globals("there is no encoder of their posterior")
    of_model = model_parameters(program)
    own = {name: tensor for name, tensor in program.parameters().items() if name not in of_model}
    if not own:
        raise InputError(f"the guide of {program.name} has no parameter that its model does not use")
    return own
