"""The precision of a training on the processor at hand."""

from __future__ import annotations

import warnings

import torch

from ppl_vae.errors import InputWarning
from ppl_vae.estimator.options import HardwareOptions
from ppl_vae.parallel import present
from ppl_vae.program import Precision
from ppl_vae.program.bfloat16 import product_times


def usable_precision(hardware: HardwareOptions, place: torch.device) -> Precision:
    """Return the precision of a training; bf16-mixed is declined, with a warning, on a processor that it slows down."""
    if hardware.precision != "bf16-mixed" or place.type != "cpu":
        return hardware.precision
    times = product_times()
    if not present().decide(times.bf16 > times.fp32):
        return hardware.precision
    warnings.warn(
        f"--precision bf16-mixed is declined, and the fit takes 32-true: on this processor a matrix product takes "
        f"{1e3 * times.bf16:.2g} ms with factors in bfloat16, and {1e3 * times.fp32:.2g} ms in fp32",
        InputWarning,
        stacklevel=2,
    )
    return "32-true"
