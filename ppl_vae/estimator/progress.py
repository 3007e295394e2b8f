"""The progress of a training: a bar on a terminal or in a notebook, and elsewhere a line every half a minute."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Self

from ppl_vae.display.bars import current_work, in_notebook, is_verbose, is_watched, make_bar
from ppl_vae.inference import Epoch
from ppl_vae.program import Batch

LINE_SECONDS = 30.0
"""The time between two lines of a log."""


class FitProgress:
    """The progress of a training, as a bar or as lines on standard error.

    The bar counts data, and shows their number per second and the time that is left. A thread writes the lines, so that
    they also come while a graph compiles.

    Args:
        vi: the estimator, prepared for training.
        is_shown: False shows nothing, as in the second of several processes.
    """

    def __init__(self, vi: Any, *, is_shown: bool = True) -> None:
        training, place, size = vi.training_, vi.training_.place, vi.training_.options.batch_size
        steps, self.num_train = training.options.max_steps, vi.num_train_
        whole = self.num_train * training.options.max_epochs
        self.total = whole if steps is None else min(whole, steps * size)
        self.first = self.count = place.epochs * self.num_train + place.steps * size
        self.processes, self.max_epochs = training.ranks.size, training.options.max_epochs
        self.row: Epoch | None = training.last_row
        self.is_shown = is_shown and is_verbose()
        self.bar: Any = make_bar("", self.total, "data", initial=self.first) if self.is_shown else None
        self.is_bar = self.bar is not None and not self.bar.disable
        self._started, self._ended = time.perf_counter(), threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self.is_shown and not is_watched():
            self._thread = threading.Thread(target=self._write_lines, name="progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self.bar is not None:
            self.bar.close()
        if self.is_bar and in_notebook():
            print(self.line(), file=sys.stderr)

    def watched(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield batches, and count their data, with those of other processes."""
        try:
            for batch in batches:
                yield batch
                number = len(batch[-1]) * self.processes
                self.count += number
                if self.is_bar:
                    self.bar.update(number)
        finally:
            batches.close()  # type: ignore[attr-defined]

    def note(self, row: Epoch) -> None:
        """Show the results of a validation."""
        self.row = row
        if self.is_bar:
            self.bar.set_postfix_str(self._bounds())

    def _bounds(self) -> str:
        if (row := self.row) is None:
            return ""
        valid = "" if math.isnan(row.elbo_valid) else f", valid {row.elbo_valid:.2f}"  # without validation data
        return f"ELBO train {row.elbo_train:.2f}{valid} nats per datum"

    def line(self) -> str:
        """Return the state in a line: epoch, data, bounds, rate and time left, or what is done if it is no step."""
        seconds, work = time.perf_counter() - self._started, current_work()
        rate = (self.count - self.first) / seconds if seconds > 0 and not work else 0.0
        left = f"{describe_seconds((self.total - self.count) / rate)} left" if rate > 0 else ""
        epoch = min(self.max_epochs, self.count // self.num_train + 1)
        done = f"epoch {epoch} of at most {self.max_epochs}"
        speed = f"{rate:,.0f} data/s" if rate > 0 else ""
        return "; ".join(part for part in (done, self._bounds(), speed, left, work) if part)

    def _write_lines(self) -> None:
        while not self._ended.wait(LINE_SECONDS):
            print(self.line(), file=sys.stderr, flush=True)


def describe_seconds(seconds: float) -> str:
    """Return a time in two units.

    Example:
        >>> describe_seconds(42), describe_seconds(125), describe_seconds(7300), describe_seconds(200_000)
        ('42 s', '2 min 5 s', '2 h 1 min', '2 d 7 h')
    """
    whole = int(seconds)
    for size, name, smaller, lower in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // smaller} {lower}"
    return f"{whole} s"
