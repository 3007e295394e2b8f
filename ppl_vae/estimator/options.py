"""The estimator's options: what their values can be."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
import torch

from ppl_vae.errors import InputError, nearest
from ppl_vae.inference import Schedule

Guide = Literal["amortized"]
Accelerator = Literal["auto", "cpu", "cuda"]


def check_options(estimator: Any) -> None:
    """Raise ``InputError`` for an option whose value cannot be."""
    for name, known in (("guide", get_args(Guide)), ("schedule", get_args(Schedule))):
        if getattr(estimator, name) not in known:
            raise InputError(
                f"{name}={getattr(estimator, name)!r} is unknown; {nearest(str(getattr(estimator, name)), known)}"
            )
    for name in ("num_particles", "max_epochs", "batch_size", "num_samples", "patience"):
        value = getattr(estimator, name)
        if not (isinstance(value, int | np.integer) and value >= 1) and not (name == "patience" and value is None):
            raise InputError(f"{name} is {value!r}: expected a whole number, 1 or more")
    if not (isinstance(estimator.seed, int | np.integer) and 0 <= estimator.seed < 2**63):
        raise InputError(f"seed is {estimator.seed!r}: expected a whole number from 0 to 2**63 - 1")
    if not 0 < estimator.learning_rate < math.inf:
        raise InputError(f"learning_rate is {estimator.learning_rate}: expected a positive number")
    if not 0 <= estimator.validation_fraction < 1:
        raise InputError(f"validation_fraction is {estimator.validation_fraction}: expected 0 or more and less than 1")
    device(estimator.accelerator)


def device(accelerator: str) -> torch.device:
    """The device of an accelerator: a GPU if there is one and it was not declined."""
    available = torch.cuda.is_available()
    if accelerator not in get_args(Accelerator):
        raise InputError(f"accelerator={accelerator!r} is unknown; {nearest(accelerator, get_args(Accelerator))}")
    if accelerator == "cuda" and not available:
        raise InputError("--accelerator cuda: this machine has no GPU that PyTorch can use; take auto or cpu")
    return torch.device("cuda" if available and accelerator != "cpu" else "cpu")
