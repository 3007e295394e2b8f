"""Work of a verb on many rows, done in portions by one process, or in shards by several that need no communication."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import ppl_vae
from ppl_vae.cli.opened import OpenRun, Outcome, Selection
from ppl_vae.data import Source, as_source, subset
from ppl_vae.data.source import row_bytes
from ppl_vae.errors import InputError
from ppl_vae.estimator import VariationalInference
from ppl_vae.estimator.warrant import fingerprint
from ppl_vae.parallel import WHOLE, RowSpan, Shard, parse_shard, present
from ppl_vae.runs import ShardFile, check_complete, digest_file, find_shards, read_facts, read_shard, write_shard

PORTION_BYTES = 2**26
"""The size of the data that are in memory at once."""

Content = dict[str, Any]
"""The results for a portion: mappings and lists of arrays, tensors, and what JSON can hold."""


@dataclass(frozen=True, eq=False)
class ChosenRows:
    """The rows that a verb works on, which are read portion by portion.

    Args:
        source: the part of the data.
        numbers: the numbers of the chosen rows in their part; None if all are chosen.
    """

    source: Source
    numbers: np.ndarray | None = None

    @property
    def num_rows(self) -> int:
        """The number of rows."""
        return self.source.num_rows if self.numbers is None else len(self.numbers)

    @property
    def all_numbers(self) -> np.ndarray:
        """The numbers of all rows in their part."""
        return np.arange(self.num_rows) if self.numbers is None else self.numbers

    def read(self, rows: range | np.ndarray) -> dict[str, np.ndarray]:
        """Return some rows as arrays; ``_row`` has their numbers in their part."""
        if isinstance(rows, range) and self.numbers is None:
            return {**self.source.read(slice(rows.start, rows.stop)), "_row": np.arange(rows.start, rows.stop)}
        chosen = np.asarray(rows) if self.numbers is None else self.numbers[np.asarray(rows)]
        return {**self.source.rows(chosen), "_row": chosen}  # type: ignore[attr-defined]

    def portions(self, rows: range, block_rows: int) -> Iterator[range]:
        """Yield ranges of whole blocks of rows that fit in memory together."""
        step = max(1, PORTION_BYTES // max(1, row_bytes(self.source)) // block_rows) * block_rows
        for start in range(rows.start, rows.stop, step):
            yield range(start, min(start + step, rows.stop))


def choose_rows(run: OpenRun, selection: Selection) -> ChosenRows:
    """Return the rows of a selection; only their numbers are in memory."""
    source = as_source(run.data.part(selection.part))
    if selection.num_data is None or selection.num_data >= source.num_rows:
        return ChosenRows(source)
    return ChosenRows(source, subset({"_row": np.arange(source.num_rows)}, selection.num_data, run.vi.seed)["_row"])


@dataclass(frozen=True, eq=False)
class Job:
    """Work of a verb on rows.

    Args:
        verb: the verb.
        run: the run.
        rows: the rows.
        options: the options of the verb that decide its numbers, as JSON can hold them.
        compute: a function from the fitted object at a place, and the arrays of a portion, to what is computed of them.
        finish: a function from what was computed of all portions, in their order, to the outcome.
        block_rows: the number of rows in a block; a portion begins and ends between two blocks.
    """

    verb: str
    run: OpenRun
    rows: ChosenRows
    options: Mapping[str, Any]
    compute: Callable[[VariationalInference, dict[str, np.ndarray]], Content]
    finish: Callable[[Iterator[Content]], Outcome]
    block_rows: int

    def portions(self, shard: Shard = WHOLE) -> Iterator[Content]:
        """Yield what is computed of each portion of a shard."""
        run, num_rows = self.run, self.rows.num_rows
        for rows in self.rows.portions(shard.rows(num_rows, self.block_rows), self.block_rows):
            yield self.compute(run.vi.at(RowSpan(rows.start, num_rows)), self.rows.read(rows))

    @cached_property
    def facts(self) -> dict[str, Any]:
        """All that the numbers depend on, but for the rows: shards that are merged have the same."""
        return {
            "version": ppl_vae.__version__,
            "program": digest_file(self.run.run.checkpoint),
            "data": fingerprint(self.run.data),
            "seed": self.run.vi.seed,
            "num_data": self.rows.num_rows,
            "options": json.loads(json.dumps(dict(self.options))),
        }


def do(job: Job, shard: str | None = None) -> Outcome:
    """Do the work on all rows, or on those of a shard, which is written into the run folder until it is merged.

    Several processes that a launcher has started take a shard each, and the first one merges them.

    Args:
        job: the work.
        shard: the shard, such as 3/16; None takes all rows.
    """
    ranks = present()
    if ranks.size > 1:
        if shard is not None:
            raise InputError(
                f"--shard {shard} in one of {ranks.size} processes that share the data already: leave it out"
            )
        _write(job, Shard(ranks.rank, ranks.size))
        ranks.gather(None)  # all have written theirs
        files = find_shards(job.run.run.path)[job.verb] if ranks.is_first else []
        return job.finish(_read(job, files)) if ranks.is_first else Outcome(None)
    if shard is None:
        return job.finish(job.portions())
    chosen = parse_shard(shard)
    path, rows = _write(job, chosen), chosen.rows(job.rows.num_rows, job.block_rows)
    lines = [
        f"shard {chosen}: {len(rows)} of {job.rows.num_rows} data; when all shards are there, "
        f"python -m ppl_vae merge {job.run.run.path} merges them"
    ]
    return Outcome(None, lines, [path])


def _write(job: Job, shard: Shard) -> Path:
    """Compute a shard and write it into the run folder."""
    return write_shard(job.run.run.path, job.verb, shard, job.facts, {"portions": list(job.portions(shard))})


def _read(job: Job, files: Sequence[ShardFile]) -> Iterator[Content]:
    """Yield what was computed of all portions, shard by shard."""
    for file in files:
        yield from read_shard(file.path, job.facts)["portions"]


def merge_shards(run: OpenRun, make: Callable[[str, Mapping[str, Any]], Job], verb: str | None = None) -> list[Outcome]:
    """Merge the shards that are in the folder of a run.

    Args:
        run: the run.
        make: a function from a verb and the options of its shards to its job.
        verb: the verb whose shards are merged; by default those of every verb.

    Raises:
        InputError: there are no shards, one is missing, or one was computed with something else than the others.
    """
    shards = find_shards(run.run.path)
    if verb is not None:
        shards = {name: files for name, files in shards.items() if name == verb}
    if not shards:
        whose = "" if verb is None else f" of {verb}"
        raise InputError(
            f"{run.run.path} has no shards{whose}: write them with python -m ppl_vae {verb or 'evaluate'} "
            f"{run.run.path} --shard 1/16, and so on to 16/16"
        )
    outcomes = []
    for name, files in shards.items():
        check_complete(files)
        facts = [read_facts(file.path) for file in files]
        usual = max(facts, key=facts.count)  # those of most shards
        job = make(name, usual["options"])
        outcomes.append(job.finish(_read(job, files)))
    return outcomes
