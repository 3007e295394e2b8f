"""The options of a verb that several processes can work on, and the set-up of such a process."""

from __future__ import annotations

import argparse
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import NamedTuple

from ppl_vae.cli.spelling import underscored
from ppl_vae.errors import InputError
from ppl_vae.parallel import Ranks, joined

IN_SHARDS = ("evaluate", "gap", "impute", "embed", "outliers")
"""The verbs whose work several processes share out: each takes its shard of the data, and the first merges them."""
TOGETHER = ("fit", *IN_SHARDS)
"""The verbs that several processes can work on together."""


class Processes(NamedTuple):
    """The processes of a command.

    Args:
        processes: number of processes that share the work. They run on this machine; torchrun starts them on several.
        max_restarts: largest number of restarts if a process is killed. All processes then go on from the last
            checkpoint.
    """

    processes: int = 1
    max_restarts: int = 0


def take_processes(verb: str, args: Sequence[str]) -> tuple[Processes, list[str]]:
    """Separate the options of the launcher from the others.

    Raises:
        InputError: a number is none, or the processes have been started already.
    """
    if verb not in TOGETHER:
        return Processes(), list(args)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--max_restarts", type=int, default=0)
    try:
        taken, rest = parser.parse_known_args(underscored(args))
    except argparse.ArgumentError as error:
        option = (error.argument_name or "").replace("_", "-")
        raise InputError(
            f"option {option}: expected a whole number, got {error.message.partition('value: ')[2] or 'none'}"
        ) from error
    if taken.processes < 1 or taken.max_restarts < 0:
        raise InputError(
            f"--processes is {taken.processes} and --max-restarts is {taken.max_restarts}: expected 1 or more, and 0 "
            f"or more"
        )
    if taken.processes > 1 and is_started():
        raise InputError("--processes starts processes, and torchrun has started them already: leave it out")
    if taken.max_restarts and taken.processes == 1:
        raise InputError("--max-restarts restarts several processes: give --processes a number, or leave it out")
    return Processes(taken.processes, taken.max_restarts), rest


def is_started() -> bool:
    """Return True in one of several processes that a launcher has started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def together(verb: str) -> Iterator[Ranks]:
    """Join the processes that a launcher has started; only the first one prints, except for errors.

    Raises:
        InputError: several processes cannot work on the verb together.
    """
    if not is_started():
        with joined() as ranks:
            yield ranks
        return
    if verb not in TOGETHER:
        raise InputError(f"{verb} runs in one process: start it without torchrun")
    with ExitStack() as stack:
        ranks = stack.enter_context(joined())
        if not ranks.is_first:
            stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w"))))  # noqa: PTH123
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            logging.getLogger("ppl_vae").setLevel(logging.ERROR)
        yield ranks
