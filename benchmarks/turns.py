"""Contestants as processes, and their turns: one works while the others sleep."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ppl_vae.cli.process import SPINS_ALONE

CONTESTANTS = Path(__file__).parent / "contestants"
REST = 0.05
"""Seconds between turns, so that threads that spin after their work are asleep."""
T = TypeVar("T")


class Contestant(NamedTuple):
    """A participant: its name, its script and its options."""

    name: str
    script: str
    options: Mapping[str, Any] = {}
    is_peer: bool = False
    """If true, the script runs in the environment of the peers."""

    def python(self, peers: Path) -> str:
        """Return the interpreter that runs the script."""
        return str(peers) if self.is_peer else sys.executable


class Answer(NamedTuple):
    """The result of a turn: seconds, a value in nats per datum, and peak memory in MiB."""

    seconds: float
    value: float
    peak_mib: float


class Worker:
    """A running contestant.

    Args:
        contestant: the contestant to start.
        work: the fields of ``protocol.Work``.
        peers: the Python of the environment of the peers.
        environment: additional environment variables.
    """

    def __init__(
        self, contestant: Contestant, work: Mapping[str, Any], peers: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.contestant = contestant
        variables = dict(os.environ)
        if contestant.is_peer:
            variables.pop("GOMP_SPINCOUNT", None)  # peers run with their defaults
        else:
            variables["GOMP_SPINCOUNT"] = SPINS_ALONE  # the others are started at the same time, and sleep later
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [
                contestant.python(peers),
                str(CONTESTANTS / contestant.script),
                json.dumps({**work, "options": contestant.options}),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
            env=variables | dict(environment or {}),
        )

    def ready(self) -> dict[str, float]:
        """Wait for the first step; return the seconds of the import and of that step."""
        return self._answer()

    def turn(self, seed: int, steps: int) -> Answer:
        """Ask for a turn and wait for its result."""
        assert self._process.stdin is not None
        time.sleep(REST)
        print(json.dumps({"seed": seed, "steps": steps}), file=self._process.stdin, flush=True)
        return Answer(**self._answer())

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            text = "".join(self._errors.readlines()[-15:])
            raise RuntimeError(f"{self.contestant.name} ended with status {self._process.returncode}:\n{text}")
        return json.loads(line)

    def close(self) -> None:
        """End the process by closing its input."""
        self._process.communicate()
        self._errors.close()


@contextmanager
def running(
    contestants: Sequence[Contestant],
    work: Mapping[str, Any],
    peers: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[dict[str, Worker]]:
    """Start contestants and yield them by name when all are ready."""
    with ExitStack() as stack:
        workers = {}
        for contestant in contestants:
            workers[contestant.name] = Worker(contestant, work, peers, environment)
            stack.callback(workers[contestant.name].close)
        for worker in workers.values():
            worker.ready()
        yield workers


def interleaved(
    pairs: Sequence[tuple[str, str]], take: Callable[[str, int], T], repetitions: int
) -> dict[tuple[str, str], list[tuple[T, T]]]:
    """Take the two turns of each pair one after the other; which side is first alternates.

    Args:
        pairs: names of contestants, ours before the peer.
        take: a function of a name and a repetition that takes a turn.
        repetitions: the number of repetitions of each pair.
    """
    turns: dict[tuple[str, str], list[tuple[T, T]]] = {pair: [] for pair in pairs}
    for repetition in range(1, repetitions + 1):
        for ours, peer in pairs:
            if repetition % 2:
                our_turn, peer_turn = take(ours, repetition), take(peer, repetition)
            else:
                peer_turn, our_turn = take(peer, repetition), take(ours, repetition)
            turns[ours, peer].append((our_turn, peer_turn))
    return turns
