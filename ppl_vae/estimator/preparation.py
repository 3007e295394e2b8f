"""The preparation of training from an estimator's options, its program and its data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import torch

from ppl_vae.data import (
    Batches,
    Holes,
    NamedArrays,
    StoredRows,
    StreamedBatches,
    as_source,
    check_precision,
    describe_empty_rows,
    mask_of,
    sort_by_length,
    subset,
    with_numbers,
)
from ppl_vae.errors import InputError
from ppl_vae.estimator.holes import ExtraHoles
from ppl_vae.estimator.options import (
    FitOptions,
    HardwareOptions,
    device,
    make_current,
    method_options,
    with_steady_average,
)
from ppl_vae.estimator.origin import Origin
from ppl_vae.estimator.precision import usable_precision
from ppl_vae.estimator.standards import find_standards
from ppl_vae.estimator.warrant import check_program
from ppl_vae.evaluation.arguments import Arrays, make_batches
from ppl_vae.evaluation.densities import check_densities
from ppl_vae.evaluation.fitted import Fitted
from ppl_vae.evaluation.passes import ROWS_PER_PASS, SEQUENCES_PER_PASS, visits
from ppl_vae.evaluation.validation import validation_bound
from ppl_vae.inference import (
    METHODS,
    NUMBER,
    AmortizedOptions,
    Compiler,
    Epoch,
    LocalOptions,
    Method,
    Step,
    Training,
)
from ppl_vae.inference.options import options_of
from ppl_vae.inference.place import epoch_seed
from ppl_vae.inference.rate_search import RateSearch, search_rate
from ppl_vae.inference.table import tables_at
from ppl_vae.parallel import part_of, portion_of, present
from ppl_vae.program import (
    Batch,
    BoundProgram,
    check_model,
    check_parts,
    fp32_products,
)
from ppl_vae.program.sites import hint_at_chains
from ppl_vae.runs import Fingerprints, check_numbers, read_checkpoint, read_tables

Watch = Callable[[Iterator[Batch]], Iterator[Batch]]

BF16_TOLERANCE = 0.1
"""The largest relative difference of a graph whose bfloat16 numbers are rounded at other places."""
MAX_RUNS = 8
"""The largest number of runs that look for modules which the objects of a program do not hold."""


def make_fitted(
    origin: Origin,
    estimator: Any,
    arrays: Arrays,
    dynamic: Collection[str] = (),
    *,
    train: bool,
    method: Method | None = None,
    holes: Holes = Holes(),  # noqa: B008  (immutable)
) -> Fitted:
    """Bring a program to the device, keep a few rows of data as its template, and make its method of inference.

    Args:
        origin: the program, and what it was at first.
        estimator: an object with all options as attributes.
        arrays: named arrays; if ``train`` is false, those of the template are enough.
        dynamic: names of arrays of probabilities, from which bits are drawn.
        train: If true, check the program, and standardise the input of a derived encoder.
        method: a method that was made before with the same options, and is used again.
        holes: the arrays that may have holes; their masks are among the arrays.
    """
    standardize = options_of(estimator, FitOptions).standardize
    program, hardware, kind = origin.definition, options_of(estimator, HardwareOptions), METHODS[estimator.guide]
    place, is_double = device(hardware.accelerator), hardware.precision == "64-true"
    make_current(place)
    precision = usable_precision(hardware, place) if train else hardware.precision
    program.store.precision = precision
    arguments = tuple(name for name in program.arguments(arrays.keys()) if name not in holes.masks)
    masked = [name for name in holes.names if name in arguments]
    arguments += tuple(mask_of(name) for name in masked)
    few = {name: array[:8] for name, array in arrays.items()}
    for _ in range(MAX_RUNS):
        origin.keep()  # before anything is moved or trained
        program.module.to(place, torch.float64 if is_double else None)
        floats = [p.dtype for p in program.module.parameters() if p.is_floating_point()]
        dtype = floats[0] if floats else torch.float64 if is_double else torch.get_default_dtype()
        template = next(make_batches(few, arguments, 8, place, dtype, dynamic).in_order())
        if not program.learn(template, arguments, masked, guided=kind.uses_guide):
            break  # else the new modules are moved, so that the program runs further the next time
    if train:
        check_precision(arrays, arguments, dtype)
    if method is None:
        seen = holes.open(arrays) if train else arrays
        columns = [seen[name] for name in arguments] if train else None
        own_guide = kind.uses_guide and not kind.lambda_is_data and program.guide is not None
        bound = program.bind(
            template,
            arguments=arguments,
            masked=masked,
            precision=precision,
            guided=kind.uses_guide,
            num_data=len(columns[0]) if columns else 1,
            scalings=find_standards(arguments, template, seen, dynamic, train) if standardize else None,
            check=(check_parts if own_guide else check_model) if train else None,
        )
        method = kind(bound, template, method_options(estimator), columns)
    tolerance = BF16_TOLERANCE if precision == "bf16-mixed" else None
    method.compiler = Compiler(hardware.compile, tolerance=tolerance)
    for shared in (method.program.global_posterior, method.program.shared_factors):
        if train and shared is not None:
            shared.num_data.fill_(len(next(iter(arrays.values()))))  # a second fit may have other data
    options = options_of(estimator, LocalOptions)
    numbers = (estimator.num_samples, estimator.seed, estimator.compile)
    fitted = Fitted(method, arguments, template, place, dtype, options, *numbers, memory=hardware.memory)
    if (parts := method.program.parts) is not None:
        allowed = {name: may.cpu().numpy() for name, may in zip(masked, parts.allowed, strict=True)}
        fitted.naming.holes = replace(holes, allowed=allowed)
    if (other := program.argument_for_x) is not None and "x" not in program.argument_names:
        fitted.naming.synonyms = {other: "x"} if "x" in arguments else {"x": other}
    return fitted


def describe_arguments(fitted: Fitted, arrays: Arrays) -> list[str]:
    """Return a sentence about the array x if an argument of another name takes it, and one about arrays left out."""
    sentences, program = [], fitted.program
    model = f"model({', '.join(program.argument_names)}) of {program.name}"
    for name, array in fitted.naming.synonyms.items():
        if array in fitted.arguments and array == "x":
            sentences.append(f"{model} takes the array 'x' as {name!r}: its position decides")
    if left_out := [repr(name) for name in arrays if name not in fitted.arguments]:
        are = "is" if len(left_out) == 1 else "are"
        sentences.append(f"{', '.join(left_out)} of the data {are} left out: {model} has no argument of that name")
    sentences += describe_empty_rows("the training data", arrays, fitted.naming.holes.names)
    return sentences + hint_at_chains(program)


class Preparation:
    """The data of a fit as batches, checked and on the device, and the training loop over them.

    Of several processes that train together, each has its own rows.

    Args:
        fitted: the program with its method of inference.
        estimator: an object with all options as attributes.
        train: named arrays.
        valid: named arrays of the validation data, which decide when to stop; None trains to the last epoch.
        dynamic: names of arrays of probabilities, from which bits are drawn anew in every epoch.

    Raises:
        InputError: the program has no density at a datum, or does not take a batch of the size that training has.
    """

    def __init__(
        self, fitted: Fitted, estimator: Any, train: Arrays, valid: Arrays | None, dynamic: Collection[str]
    ) -> None:
        self.fitted, self.method = fitted, fitted.inference
        self.matmul_precision = options_of(estimator, HardwareOptions).matmul_precision
        options, ranks = with_steady_average(estimator), present()
        self.num_particles = method_options(estimator).num_particles
        self.bound = options.valid_bound or options_of(estimator, AmortizedOptions).bound
        if options.valid_bound == "iwae":
            self.num_particles = options.valid_particles
        if options.schedule == "plateau" and not valid:
            raise InputError("schedule='plateau' waits for validations: give validation data, or another schedule")
        self.ranks = self.method.ranks = ranks
        self.num_train = _num_rows(train)
        portion = portion_of(self.num_train, options.batch_size, ranks.rank, ranks.size)
        self.given_valid = _num_rows(valid) if valid else 0
        if valid and self.given_valid > (most := options_of(estimator, FitOptions).num_valid or self.given_valid):
            own = part_of(self.given_valid, ranks.rank, ranks.size)
            check_densities(fitted, self._batches(_of_rows(valid, own), ROWS_PER_PASS), own.start)
            valid = NamedArrays(subset(valid, most, fitted.seed))
        self.num_valid = _num_rows(valid) if valid else 0
        validated = part_of(self.num_valid, ranks.rank, ranks.size)
        self.rows = {"train": portion.rows, "valid": validated}
        train = _of_rows(train, portion.rows)
        own_valid = _of_rows(valid, validated) if valid and validated.start < validated.stop else None
        order = {"num_batches": portion.num_batches, "group_by_length": options.group_by_length}
        self.train_batches = self._batches(self._numbered(train), portion.batch_size, dynamic, **order)
        self.valid_batches = self._valid_batches(own_valid) if own_valid else None
        check_densities(fitted, self._batches(train, ROWS_PER_PASS, dynamic), portion.rows.start)
        if own_valid:
            check_densities(fitted, self._batches(own_valid, ROWS_PER_PASS), validated.start)
        for size in self.train_batches.sizes():
            self.method.check_batch(next(self._batches(_of_rows(train, slice(0, size)), size, dynamic).in_order()))
        self.extra_holes = ExtraHoles.of(fitted, options_of(estimator, FitOptions).extra_missing)
        self.method.remember(self.train_batches.num_data, validated.stop - validated.start)
        parts = (self.train_batches, self.valid_batches)
        planned = visits([part.sizes() for part in parts if part], options.max_epochs)
        most_steps = options.max_steps or max(planned.values())
        self.method.compiler.plan({rows: min(times, most_steps) for rows, times in planned.items()})
        self.training = Training(
            fitted.program,
            fitted.template,
            self._steps,
            options if valid else replace(options, stop="never"),
            warmup=method_options(estimator).kl_warmup_epochs,
            ranks=ranks,
            num_batches=len(self.train_batches),
            held=self.method.held,
        )

    def stretches(self, watch: Watch | None = None) -> Iterator[Epoch | None]:
        """Train, and yield after every stretch, see ``Training.stretches``.

        Args:
            watch: function that returns the batches of an epoch as they are, such as a progress bar over them.
        """

        def batches(seed: int, skip: int = 0) -> Iterable[Batch]:
            shuffled = self._shuffled(seed, skip, self.training.epoch + 1)
            return shuffled if watch is None else watch(shuffled)

        return self.training.stretches(batches, self.validate if self.num_valid else None)

    def search_rate(self, num_steps: int) -> RateSearch:
        """Take steps at rising learning rates, see ``search_rate``; parameters and optimiser change, the epoch not."""
        seeds = ((epoch, self.ranks.seed(epoch_seed(self.fitted.seed, epoch))) for epoch in count(1))
        batches = chain.from_iterable(self._shuffled(seed, 0, epoch) for epoch, seed in seeds)
        program, optimizer = self.fitted.program, self.training.optimizer
        with program.running(seed=self.ranks.seed(epoch_seed(self.fitted.seed, 1)), training=True):
            return search_rate(lambda rising: self._steps(program, rising, optimizer), optimizer, batches, num_steps)

    def resume(self, path: Path, fingerprints: Fingerprints | None = None) -> float:
        """Continue the training of a checkpoint, and return the seconds that it has taken.

        Args:
            path: the checkpoint.
            fingerprints: those of the run folder, if there is one.

        Raises:
            InputError: the checkpoint belongs to another program or to other data.
        """
        tensors, numbers = read_checkpoint(path)
        check_numbers(path, numbers)
        self.training.load_state(tensors, numbers)
        check_program(path, numbers, self.fitted.program, fingerprints)
        for name, rows in zip(self.fitted.arguments, self.fitted.template, strict=True):
            written = tensors.get(f"template.{name}")
            if written is None or not torch.equal(written, rows.cpu()):
                raise InputError(f"the data have changed since {path} was written: its first rows of {name!r} differ")
        place = self.training.place
        copies = tables_at(self.method, place)
        for name, kept in read_tables(path, place.label, tuple(copies), numbers.get("tables")).items():
            table, copy = copies[name]
            table.restore(copy, kept[self.rows[name.removesuffix("-next")]])
        return numbers["train_seconds"]

    def describe_data(self) -> list[str]:
        """Describe in a line each what does not fit in memory and is streamed, and what validation leaves out."""
        lines = [self.train_batches.describe()] if isinstance(self.train_batches, StreamedBatches) else []
        if self.num_valid < self.given_valid:
            lines += [
                f"validation takes {self.num_valid:,} of {self.given_valid:,} data, drawn by the seed; --num-valid "
                f"takes more"
            ]
        return lines

    def describe_compilation(self) -> str:
        """Report if the steps of training are compiled, and why, as the end of a sentence."""
        sizes = self.train_batches.sizes()
        return self.method.describe_compilation(max(sizes, key=lambda rows: sizes[rows]))

    def _batches(self, arrays: Arrays, batch_size: int, dynamic: Collection[str] = (), **order: Any) -> Batches:
        fitted, more = self.fitted, {"memory": self.fitted.memory, "trims": self.fitted.trims, **order}
        return make_batches(arrays, fitted.arguments, batch_size, fitted.device, fitted.dtype, dynamic, **more)

    def _valid_batches(self, arrays: Arrays) -> Batches:
        """Return the batches of validation; sequences whose padding is cut off are sorted by length."""
        if self.fitted.trims:
            return self._batches(sort_by_length(arrays), SEQUENCES_PER_PASS)
        return self._batches(self._numbered(arrays), ROWS_PER_PASS)

    def _numbered(self, arrays: Arrays) -> Arrays:
        """Return the data with the number of each row if the method needs it."""
        if not self.method.numbered:
            return arrays
        return with_numbers(arrays, NUMBER)

    def _shuffled(self, seed: int, skip: int, epoch: int) -> Iterator[Batch]:
        """Return the batches of an epoch in a random order, without the first ones, and with extra holes."""
        shuffled = self.train_batches.shuffled(seed, skip, common_seed=epoch_seed(self.fitted.seed, epoch))
        if self.extra_holes is None:
            return shuffled
        return self.extra_holes.drawn(shuffled, self.ranks.seed(seed), skip)

    def _steps(self, _: BoundProgram, batches: Iterable[Batch], optimizer: torch.optim.Optimizer) -> Iterator[Step]:
        with fp32_products(self.matmul_precision, self.fitted.device):
            yield from self.method.steps(batches, optimizer, self.training.epoch + 1)

    def validate(self) -> float:
        """Return the present validation bound of the program, nats per datum."""
        method, number = self.method, self.training.place.validations + 1
        batches = self.valid_batches.in_order() if self.valid_batches else ()
        with torch.no_grad(), method.posterior.running(seed=self.ranks.seed(self.fitted.seed), training=False):
            return validation_bound(
                method.posterior,
                (method.validate(batch, number) for batch in batches),
                self.num_valid,
                num_particles=self.num_particles,
                bound=self.bound,
                room=self.fitted.room,
                ranks=self.ranks,
            )


def _num_rows(arrays: Arrays) -> int:
    return as_source(arrays).num_rows


def _of_rows(arrays: Arrays, rows: slice) -> Arrays:
    return arrays.part(rows.start, rows.stop) if isinstance(arrays, StoredRows) else NamedArrays(arrays).rows(rows)
