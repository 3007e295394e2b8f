"""Inference: one method a file. A method is a generator of steps; the training loop is the same for all."""

from ppl_vae.inference.amortized import Step, amortized_steps
from ppl_vae.inference.objectives import elbo
from ppl_vae.inference.training import Epoch, Schedule, Training, group

__all__ = ["Epoch", "Schedule", "Step", "Training", "amortized_steps", "elbo", "group"]
