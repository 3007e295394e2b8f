"""The encoder trained anew on the data that are evaluated, with the model fixed."""

from __future__ import annotations

from dataclasses import replace

from ppl_vae.errors import InputError
from ppl_vae.evaluation.arguments import Arrays
from ppl_vae.evaluation.fitted import Fitted
from ppl_vae.inference.amortized import Amortized, amortized_steps
from ppl_vae.inference.optimizers import make_optimizer
from ppl_vae.inference.place import epoch_seed
from ppl_vae.inference.schedules import cosine_share
from ppl_vae.program import encoder_parameters

BATCH_SIZE = 64


def refit_encoder(fitted: Fitted, arrays: Arrays, num_epochs: int, learning_rate: float = 1e-3) -> None:
    r"""Train the encoder in place on data that are to be evaluated; the model does not change.

    .. math:: \phi' = \arg\max_\phi \sum_i \mathcal L(x_i; \theta, \phi)

    The bounds of these data are then those of the same model with a better posterior: they are lower bounds on the same
    evidence, and tighter ones. The ELBO is no longer that of the fit, because its encoder has seen these data.

    Source: Mattei and Frellsen, Refit your Encoder when New Data Comes by (2018).

    Args:
        fitted: a fit by amortized inference.
        arrays: the data.
        num_epochs: number of passes over the data.
        learning_rate: learning rate of Adam at first; it falls to zero along half a cosine.

    Raises:
        InputError: the fit has no encoder of its own, or the model uses it too.

    Example:
        >>> import numpy as np
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.vae import VAE
        >>> x = (np.random.default_rng(0).random((80, 16)) < 0.5).astype("float32")
        >>> vi = VariationalInference(VAE(data_dim=16, latent_dim=2), max_epochs=1).fit(x)
        >>> before = vi.evaluate(x).rows["elbo"].log_evidence
        >>> refit_encoder(vi.fitted, {"x": x}, num_epochs=10, learning_rate=1e-2)
        >>> bool(vi.evaluate(x).rows["elbo"].log_evidence > before)
        True
    """
    method = fitted.inference
    if not isinstance(method, Amortized) or method.program.guide is None:
        raise InputError("there is no encoder to refit: the fit is not of guide='amortized' with latents")
    program, seed = method.program, fitted.seed
    options = replace(method.options, kl_weight=1.0, kl_warmup_epochs=0, free_bits=0.0, encoder_noise=0.0)
    optimizer = make_optimizer(encoder_parameters(program), learning_rate)
    batches = fitted.batches(arrays, BATCH_SIZE)
    for epoch in range(num_epochs):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * cosine_share(epoch / num_epochs)
        of_epoch = epoch_seed(seed, epoch + 1)
        with program.running(seed=of_epoch, training=False):  # no dropout, and the model's buffers stay
            for _ in amortized_steps(program, batches.shuffled(of_epoch), optimizer, options):
                pass
