"""The estimator's options: what their values can be."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
import torch

from ppl_vae.errors import InputError, nearest
from ppl_vae.inference import Baseline, Compile, EncoderObjective, FamilyName, Gradient, Schedule
from ppl_vae.program import MatmulPrecision, Precision

Guide = Literal["amortized", "per-sample", "semi-amortized"]
Accelerator = Literal["auto", "cpu", "cuda"]


def check_options(estimator: Any) -> None:
    """Raise ``InputError`` for an option whose value cannot be."""
    choices = {
        "guide": Guide,
        "schedule": Schedule,
        "family": FamilyName,
        "encoder_objective": EncoderObjective,
        "gradient": Gradient,
        "baseline": Baseline,
        "compile": Compile,
        "precision": Precision,
        "matmul_precision": MatmulPrecision,
    }
    for name, known in ((name, get_args(choice)) for name, choice in choices.items()):
        if getattr(estimator, name) not in known:
            raise InputError(
                f"{name}={getattr(estimator, name)!r} is unknown; {nearest(str(getattr(estimator, name)), known)}"
            )
    for name in (
        "num_particles",
        "max_epochs",
        "batch_size",
        "num_samples",
        "patience",
        "local_steps",
        "inference_steps",
    ):
        value = getattr(estimator, name)
        if not (isinstance(value, int | np.integer) and value >= 1) and not (name == "patience" and value is None):
            raise InputError(f"{name} is {value!r}: expected a whole number, 1 or more")
    if not (isinstance(estimator.seed, int | np.integer) and 0 <= estimator.seed < 2**63):
        raise InputError(f"seed is {estimator.seed!r}: expected a whole number from 0 to 2**63 - 1")
    if (estimator.guide, estimator.encoder_objective, estimator.gradient) == (
        "semi-amortized",
        "refined",
        "score-function",
    ):
        raise InputError("the refined objective is differentiated along the path: --gradient reparam, or initial")
    for name in ("learning_rate", "local_learning_rate"):
        rate = getattr(estimator, name)
        if not (name == "local_learning_rate" and rate is None) and not 0 < rate < math.inf:
            raise InputError(f"{name} is {getattr(estimator, name)}: expected a positive number")
    if estimator.clip_norm is not None and not 0 < estimator.clip_norm < math.inf:
        raise InputError(f"clip_norm is {estimator.clip_norm}: expected a positive number")
    if (estimator.gradient, estimator.baseline, estimator.num_particles) == ("score-function", "leave-one-out", 1):
        raise InputError(
            "the leave-one-out baseline needs two draws or more: --num-particles 2, or --baseline decaying-average"
        )
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
