"""The estimator's options, flat: those of every method of inference, of training, of a fit and of the hardware."""

from __future__ import annotations

import inspect
import math
import textwrap
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Literal, TypeVar

import torch

from ppl_vae.data import parse_size
from ppl_vae.errors import InputError, raise_together
from ppl_vae.inference import METHODS, Compile, MethodOptions, TrainingOptions
from ppl_vae.inference.options import (
    Count,
    Share,
    argument_help,
    check_options_of_others,
    check_value,
    check_values,
    options_of,
    parameters,
)
from ppl_vae.inference.training_options import MOST_STEPS, parse_interval
from ppl_vae.program import MatmulPrecision, Precision

Accelerator = str
"""A device: "auto", "cpu", "cuda", one of several GPUs such as "cuda:1", or "mps", the GPU of Apple's processors."""
Estimator = TypeVar("Estimator", bound=type)


@dataclass(frozen=True)
class FitOptions:
    """The options of a fit that concern its data and its evaluation.

    Args:
        validation_fraction: share of the data that is held out for validation. It is used if fit is given no validation
            data. The default is 0.1.
        num_valid: largest number of validation data. If there are more, they are drawn by the seed. The default is
            20000; null (None in Python) takes all.
        num_samples: number of draws per datum in evaluation. The default is 1000.
        extra_missing: share of the numbers of x to hide in training. In every batch other numbers are hidden,
            besides those that are missing, so that an encoder learns to do without them. The default 0 hides none.
        data_plate: name of the program's data plate. It is needed only if the trace does not show which plate it is.
        standardize: scale real and positive columns to unit variance. The program is given them with mean 0 and
            standard deviation 1 in the training data; a column that its model needs positive is divided by its standard
            deviation alone. Evidence, draws and means stay in the units of the data. The default is false.
    """

    group: ClassVar[str] = "data"
    validation_fraction: Share = 0.1
    num_valid: Count | None = 20_000
    num_samples: Count = field(default=1000, metadata={"group": "run"})
    extra_missing: Share = 0.0
    data_plate: str | None = field(default=None, metadata={"group": "model"})
    standardize: bool = False


@dataclass(frozen=True)
class HardwareOptions:
    """The options that decide on which device and how exactly numbers are computed.

    Args:
        accelerator: device that computes. "auto" (the default) uses a GPU of CUDA if there is one; "cpu", "cuda",
            "cuda:1" and "mps" (Apple) ask for a device.
        compile: use of compiled graphs. Graphs give the same numbers up to rounding. "auto" (the
            default) compiles the functions that are called often, "on" every function that can be compiled, and "off"
            none.
        precision: floating-point precision. "32-true" (the default) leaves the program's own precision. "bf16-mixed"
            rounds the factors of matrix products to bfloat16, in training only. "64-true" computes everything in double
            precision.
        matmul_precision: precision of fp32 matrix products. It applies in training, as in
            torch.set_float32_matmul_precision. "auto" (the default) is "high" (TF32) on a GPU, and leaves the setting
            unchanged on a CPU. Evaluation on a GPU always uses full fp32.
        memory: largest memory for data in each process, such as 2GiB. Data that fit in it are kept on the device.
            Others are read in blocks during training, and shuffled in a buffer. The default null takes half of what is
            free.
    """

    group: ClassVar[str] = "hardware"
    accelerator: Accelerator = "auto"
    compile: Compile = "auto"
    precision: Precision = "32-true"
    matmul_precision: MatmulPrecision = "auto"
    memory: str | int | None = None


def option_kinds() -> list[type]:
    """Return the dataclasses of all options: those of each method, of training, of a fit and of the hardware."""
    return [*(method.Options for method in METHODS.values()), TrainingOptions, FitOptions, HardwareOptions]


def with_options(cls: Estimator) -> Estimator:
    """Give an estimator's constructor and docstring the options of all dataclasses, and its guide all methods' names.

    The line ``**options: ...`` of the docstring is replaced by the help of each option. After a method has been added
    to ``METHODS``, another call adds its options.
    """
    kept = [
        parameter
        for parameter in inspect.signature(cls.__init__, follow_wrapped=False).parameters.values()  # type: ignore[misc]
        if parameter.name in ("self", "program")
    ]
    guide = inspect.Parameter(
        "guide", inspect.Parameter.POSITIONAL_OR_KEYWORD, default="amortized", annotation=guide_type()
    )
    named = parameters(option_kinds()).values()
    cls.__init__.__signature__ = inspect.Signature([*kept, guide, *named], return_annotation=None)  # type: ignore[misc]
    cls.__init__.__annotations__["guide"] = guide.annotation  # type: ignore[misc]
    cls._docstring = vars(cls).get("_docstring") or inspect.cleandoc(cls.__doc__ or "")  # type: ignore[attr-defined]
    lines = [
        textwrap.fill(f"    {name}: {text}", 120, subsequent_indent=" " * 8, break_on_hyphens=False)
        for name, text in argument_help(option_kinds()).items()
    ]
    before, marker, after = cls._docstring.partition("    **options:")  # type: ignore[attr-defined]
    cls.__doc__ = before + "\n".join(lines) + after[after.index("\n") :] if marker else before
    return cls


def guide_type() -> Any:
    """Return the type of ``guide``, with the names of all methods."""
    return Literal.__getitem__(tuple(METHODS))


def check_options(estimator: Any) -> None:
    """Check every option, and that the options of the chosen method agree with each other.

    Raises:
        InputError: an option's value is unknown or out of range, or two options contradict each other.
    """
    check_each_option(estimator)
    chosen = method_options(estimator)
    others = [(name, method.Options) for name, method in METHODS.items()]
    raise_together(
        [
            chosen.check,
            partial(check_options_of_others, estimator, type(chosen), others),
            partial(device, estimator.accelerator),
        ]
    )


def check_each_option(estimator: Any) -> None:
    """Check the value of every option by itself.

    Raises:
        InputError: values are unknown or out of range; it has a message for each of them.
    """
    raise_together(
        [
            partial(check_value, "guide", estimator.guide, guide_type()),
            *(partial(check_values, options_of(estimator, kind)) for kind in option_kinds()),
            options_of(estimator, TrainingOptions).check,
            partial(parse_size, estimator.memory if estimator.memory is not None else "1GiB"),
        ]
    )


def method_options(estimator: Any) -> MethodOptions:
    """Return the options of an estimator's method of inference."""
    return options_of(estimator, METHODS[estimator.guide].Options)


def with_steady_average(estimator: Any) -> TrainingOptions:
    """Return the options of training, without pauses by the clock if the gradient's baseline would notice them.

    Raises:
        InputError: pauses by the clock are asked for, and the baseline starts anew at each.
    """
    options, method = options_of(estimator, TrainingOptions), method_options(estimator)
    if (method.gradient, method.baseline) != ("score-function", "decaying-average"):
        return options
    for name in ("validate_every", "checkpoint_every"):
        interval = parse_interval(name, getattr(options, name))
        if interval is not None and math.isfinite(interval.seconds):
            raise InputError(
                f"{name} is {getattr(options, name)!r}, and a decaying average starts anew after each pause, so that "
                f"the numbers would depend on the clock: give a number of steps"
            )
    return options if options.checkpoint_every else replace(options, checkpoint_every=MOST_STEPS)


def device(accelerator: str) -> torch.device:
    """Return the device of an accelerator: for "auto", a GPU of CUDA if there is one.

    Raises:
        InputError: the accelerator is unknown, or this machine does not have it.

    Example:
        >>> device("cpu")
        device(type='cpu')
        >>> device("tpu")
        Traceback (most recent call last):
        ppl_vae.errors.InputError: accelerator='tpu' is unknown; expected auto, cpu, cuda, cuda:1 or mps
    """
    kind, colon, number = str(accelerator).partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (colon and (kind != "cuda" or not number.isdecimal())):
        raise InputError(f"accelerator={accelerator!r} is unknown; expected auto, cpu, cuda, cuda:1 or mps")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError("--accelerator mps: this machine has no Apple GPU that PyTorch can use; take auto or cpu")
    available = torch.cuda.is_available()
    if kind == "cuda" and not available:
        raise InputError(f"--accelerator {accelerator}: this machine has no GPU that PyTorch can use; take auto or cpu")
    if number and int(number) >= (count := torch.cuda.device_count()):
        raise InputError(
            f"--accelerator {accelerator}: this machine has {count} GPU{'s' * (count > 1)}, numbered from 0"
        )
    if kind == "auto":
        return torch.device("cuda" if available else "cpu")
    return torch.device(kind, int(number)) if number else torch.device(kind)


def make_current(place: torch.device) -> None:
    """Make a GPU with a number the current one of the process, whose graphs and generators its fits use from then on.

    Args:
        place: the device of a fit; others than a numbered GPU change nothing.

    Example:
        >>> make_current(torch.device("cpu"))
    """
    if place.type == "cuda" and place.index is not None:
        torch.cuda.set_device(place)
