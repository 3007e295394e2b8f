"""The estimator's options: what their values can be."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
import torch

from ppl_vae.errors import InputError, nearest
from ppl_vae.inference import Baseline, Bound, Compile, EncoderObjective, FamilyName, Gradient, Schedule
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
        "bound": Bound,
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
    _check_objective(estimator)
    if estimator.clip_norm is not None and not 0 < estimator.clip_norm < math.inf:
        raise InputError(f"clip_norm is {estimator.clip_norm}: expected a positive number")
    if (estimator.gradient, estimator.baseline, estimator.num_particles) == ("score-function", "leave-one-out", 1):
        raise InputError(
            "the leave-one-out baseline needs two draws or more: --num-particles 2, or --baseline decaying-average"
        )
    if not 0 <= estimator.validation_fraction < 1:
        raise InputError(f"validation_fraction is {estimator.validation_fraction}: expected 0 or more and less than 1")
    device(estimator.accelerator)


def _check_objective(estimator: Any) -> None:
    """What training ascends: another bound, a weight of the divergence, free bits; not every method has them all."""
    for name in ("kl_weight", "free_bits"):
        if not 0 <= getattr(estimator, name) < math.inf:
            raise InputError(f"{name} is {getattr(estimator, name)}: expected 0 or more")
    warmup, decay = estimator.kl_warmup_epochs, estimator.ema_decay
    if not (isinstance(warmup, int | np.integer) and warmup >= 0):
        raise InputError(f"kl_warmup_epochs is {warmup!r}: expected a whole number, 0 or more")
    if decay is not None and not 0 <= decay < 1:
        raise InputError(f"ema_decay is {decay}: expected 0 or more and less than 1")
    changed = {
        "kl_weight": estimator.kl_weight != 1,
        "kl_warmup_epochs": warmup > 0,
        "free_bits": estimator.free_bits > 0,
        "analytic_kl": estimator.analytic_kl,
        "gradient": estimator.gradient != "reparam",
    }
    if estimator.bound == "iwae":
        if others := [name for name, is_changed in changed.items() if is_changed]:
            raise InputError(f"bound='iwae' has no part for {others[0]}: leave that out, or take bound='elbo'")
        if estimator.num_particles == 1:
            raise InputError("bound='iwae' of one draw is the ELBO: take more, --num-particles 50")
    if estimator.guide != "amortized":
        changed["bound"] = estimator.bound != "elbo"
        for name in ("bound", "free_bits", "analytic_kl"):
            if changed[name]:
                raise InputError(f"{name}={getattr(estimator, name)!r} is for guide='amortized' alone: leave it out")
        if estimator.kl_weight == 0:
            raise InputError(f"kl_weight is 0: with guide={estimator.guide!r} lambda has no optimum then; give it more")


def device(accelerator: str) -> torch.device:
    """The device of an accelerator: a GPU if there is one and it was not declined."""
    available = torch.cuda.is_available()
    if accelerator not in get_args(Accelerator):
        raise InputError(f"accelerator={accelerator!r} is unknown; {nearest(accelerator, get_args(Accelerator))}")
    if accelerator == "cuda" and not available:
        raise InputError("--accelerator cuda: this machine has no GPU that PyTorch can use; take auto or cpu")
    return torch.device("cuda" if available and accelerator != "cpu" else "cpu")
