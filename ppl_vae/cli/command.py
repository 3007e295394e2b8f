"""The way from a command line to the function of a verb, and from its outcome to what is printed."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, fields, is_dataclass
from importlib import import_module
from inspect import Parameter, signature
from io import TextIOWrapper
from types import ModuleType
from typing import Any, get_type_hints

import torch

from ppl_vae.cli.launching import take_processes, together
from ppl_vae.cli.opened import OpenRun, Outcome, open_run
from ppl_vae.cli.parser import Parser, split_conditions
from ppl_vae.errors import Diverged, InputError, InputWarning
from ppl_vae.parallel import LostProcess, Ranks
from ppl_vae.parallel.launch import launch
from ppl_vae.runs import Run

TRUST = "trust"
REFUSED = "the error that comes again"
"""What processes remember of bad input, so that none starts again with it."""


def run_verb(verb: str, args: Sequence[str]) -> int:
    """Run a verb, print its outcome, and return the exit status.

    The status is 0 for success and 2 for bad input, which is reported in one line on standard error; ``check`` has 1 if
    a verdict fails.
    """
    module = import_module(f"ppl_vae.cli.{verb}")
    function: Callable[..., Outcome] = getattr(module, verb)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a path may have characters that the terminal's encoding lacks
            with suppress(OSError):  # the stream was closed or exchanged, as the print reports
                stream.reconfigure(errors="backslashreplace")
    try:
        with signals_stop():
            processes, args = take_processes(verb, args)
            if processes.processes > 1:
                read_options(module, function, args)  # which reports bad ones before any process is started
            else:
                with together(verb) as ranks:
                    return _run(module, function, args, ranks)
        return launch(["ppl_vae", verb, *args], *processes)
    except InputError as error:  # of the launcher
        return report(error) or 2


def _run(module: ModuleType, function: Callable[..., Outcome], args: Sequence[str], ranks: Ranks) -> int:
    """Run a verb in this process, print its outcome, and return the exit status.

    Of several processes, the first one that raises an error reports it. After a restart, an error that would come again
    ends them at once.
    """
    try:
        if ranks.recall(REFUSED):
            return 2
        with warnings_in_one_line(), fast_products():
            outcome = call(function, read_options(module, function, args))
            print("\n".join([*outcome.lines, *(f"written to {path}" for path in outcome.files)]), flush=True)
    except BaseException as error:
        if not ranks.may_report():
            return 1
        if isinstance(error, InputError | Diverged):
            with suppress(LostProcess):  # what is reported is the first error
                ranks.remember(REFUSED, str(error))
        status = report(error)
        if status is None:
            raise
        return status
    return outcome.status


def read_options(module: ModuleType, function: Callable[..., Outcome], args: Sequence[str]) -> dict[str, Any]:
    """Return the values of a verb's options, as its own parser or ``parse`` reads them."""
    return module.parse(args) if hasattr(module, "parse") else parse(function, args)


def report(error: BaseException) -> int | None:
    """Print an error that a user can cause in one line, and return the exit status; None for another error."""
    status, line = 2, None
    if isinstance(error, InputError | Diverged):
        messages = error.messages if isinstance(error, InputError) else [str(error)]
        line = "\n".join(f"error: {' '.join(message.split())}" for message in messages)
    elif isinstance(error, BrokenPipeError):  # whoever read the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    elif isinstance(error, OSError) and not getattr(error, "__notes__", None):  # else the program raised it in training
        place = f" ({error.filename})" if error.filename else ""
        text = " ".join(f"{error.strerror or error}{place}".split())
        remedy = "take a smaller model or batch" if is_out_of_memory(error) else "look at the disk and its permissions"
        line = f"error: {text}: {remedy}"
    elif isinstance(error, LostProcess):
        status, line = 1, f"error: {error}"
    elif isinstance(error, MemoryError | RuntimeError) and is_out_of_memory(error):
        line = "error: there is not enough memory: take a smaller --batch-size, --num-samples or model"
    elif isinstance(error, KeyboardInterrupt):
        status, line = 130, str(error) or "stopped"
    if line is None:
        return None
    print(line, file=sys.stderr)
    return status


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if an error says that memory is used up, in the words of Python, PyTorch, or the system."""
    words = ("out of memory", "allocate memory", "not enough memory", "can't start new thread", "create a primitive")
    return isinstance(error, MemoryError) or any(part in str(error).lower() for part in words)


@contextmanager
def signals_stop() -> Iterator[None]:
    """Let SIGTERM, SIGHUP and SIGUSR1 stop a command as Ctrl-C does.

    A cluster's scheduler sends the first before it kills, and the last, if it is asked to, some minutes before; a
    terminal that is closed sends the second.
    """
    if threading.current_thread() is not threading.main_thread():  # the only one that can handle signals
        yield
        return

    is_stopped = threading.Event()

    def interrupt(*_: Any) -> None:
        is_stopped.set()
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]
    numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]  # nohup
    hook = sys.unraisablehook

    def interrupt_again(unraisable: Any) -> None:
        """Interrupt a moment later if the signal came in the end of an object, where Python drops what is raised.

        After that, objects that were not made to their end may fail to end, which is of no interest to anyone.
        """
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            again = numbers[0] if numbers else signal.SIGINT  # a process in the background may ignore SIGINT
            threading.Timer(0.02, _signal_main_thread, [again]).start()
        elif not is_stopped.is_set():
            hook(unraisable)

    by_default = [signal.SIGINT] if signal.getsignal(signal.SIGINT) is signal.default_int_handler else []
    before = {number: signal.signal(number, interrupt) for number in (*numbers, *by_default)}
    sys.unraisablehook = interrupt_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _signal_main_thread(number: signal.Signals) -> None:
    """Send a signal to the main thread, which ends a system call that it waits for."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(number)


def parse(function: Callable[..., Outcome], args: Sequence[str]) -> dict[str, Any]:
    """Return the values of the options of a verb's function; see ``add_options``.

    If the function takes any keyword, an option that is unknown is a condition of the program, such as ``--y 3``.
    """
    parser = Parser(function.__name__)
    add_options(parser, function)
    conditions: dict[str, str] = {}
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in signature(function).parameters.values()):
        args, conditions = split_conditions(parser, args)
    return parser.parse_args(args).as_dict() | conditions


def add_options(parser: Parser, function: Callable[..., Any], skip: Sequence[str] = ()) -> None:
    """Add an option for each parameter of a verb's function.

    A parameter that is a dataclass stands for all options of that class, with the values of the default as defaults; an
    ``OpenRun`` stands for those of ``open_run``.

    Args:
        parser: the parser of the verb.
        function: the function of the verb.
        skip: names of parameters and of fields that are no options.
    """
    groups = _groups(function)
    kinds = [kind for kind, _ in groups.values()]
    keywords = [name for name, value in signature(function).parameters.items() if value.kind is Parameter.VAR_KEYWORD]
    skip = (*skip, *groups, *keywords, TRUST)
    parser.add_function_arguments(function, as_group=False, as_positional=True, skip=set(skip))
    for kind, default in groups.values():
        if kind is OpenRun:
            group = parser.add_argument_group("Run")
            group.add_function_arguments(open_run, as_group=False, as_positional=True, skip={TRUST})
        else:
            parser.add_class_arguments(kind, skip=set(skip))
            parser.set_defaults({name: value for name, value in asdict(default).items() if name not in skip})
    if any(TRUST in signature(part).parameters for part in (function, *([open_run] if OpenRun in kinds else []))):
        parser.add_argument(f"--{TRUST}", action="store_true")


def call(function: Callable[..., Outcome], options: Mapping[str, Any]) -> Outcome:
    """Call a verb's function with values of its options, or the defaults of those that are missing.

    Args:
        function: the function of the verb.
        options: values by name; the run may be an ``OpenRun``, by the name of its parameter.
    """
    arguments = dict(options)
    with ExitStack() as held:
        for name, (kind, default) in _groups(function).items():
            if kind is OpenRun:
                if name not in arguments:
                    chosen = {key: arguments.pop(key) for key in signature(open_run).parameters}
                    held.enter_context(Run.open(chosen["folder"]).locked(alone=False))
                    arguments[name] = open_run(**chosen)
            else:
                given = {field.name: arguments.pop(field.name) for field in fields(kind) if field.name in arguments}
                arguments[name] = kind(**asdict(default) | given)
        return function(**arguments)


def _groups(function: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Return the class and the default of each parameter that stands for a group of options."""
    kinds = get_type_hints(function)
    return {
        name: (kinds[name], parameter.default)
        for name, parameter in signature(function).parameters.items()
        if kinds[name] is OpenRun or is_dataclass(kinds[name])
    }


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Print each ``InputWarning`` once, on standard error, without the line of code that it comes from."""
    with warnings.catch_warnings():
        before = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
            if issubclass(category, InputWarning):
                print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)
            else:
                before(message, category, *place)

        warnings.showwarning = show  # type: ignore[assignment]
        warnings.simplefilter("default", InputWarning)
        yield


@contextmanager
def fast_products() -> Iterator[None]:
    """Let fp32 matrix products run at the precision "medium" on a CPU on which that is as exact.

    On a GPU it would round to ten bits, which an estimate of the evidence cannot afford.
    """
    precision = torch.get_float32_matmul_precision()
    if not torch.cuda.is_available() and medium_is_exact():
        torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)


def medium_is_exact() -> bool:
    """Measure if fp32 matrix products at the precision "medium" are exact on this processor.

    With that setting oneDNN may round the factors to bfloat16, and does so if the processor has AMX, where it is
    faster. On a processor with AVX-512 alone the products stay what they were, and are nearly twice as fast.
    """
    before, generator = torch.get_float32_matmul_precision(), torch.Generator().manual_seed(0)
    a, b = torch.randn(256, 512, generator=generator), torch.randn(512, 256, generator=generator)
    try:
        torch.set_float32_matmul_precision("medium")
        off = ((a @ b).double() - a.double() @ b.double()).abs().max()
    finally:
        torch.set_float32_matmul_precision(before)
    return float(off) < 1e-3  # rounded factors: 0.1
