"""The training loop: what is kept, what is resumed, what stops it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pyro
import pytest
import torch
from torch import Tensor

from ppl_vae.errors import Diverged, InputError
from ppl_vae.inference import AmortizedOptions, Epoch, Step, Training, TrainingOptions, amortized_steps
from ppl_vae.models.vae import VAE
from ppl_vae.program import Batch, BoundProgram, Program, seeded
from tests.helpers.scenarios import Conjugate, bits, normal

X = bits(40, 1).expand(40, 8).contiguous()  # eight copies of a fair bit: log p(x) can reach -log 2


def batches(seed: int) -> Iterator[Batch]:
    for rows in torch.randperm(40, generator=torch.Generator().manual_seed(seed)).split(16):
        yield (X[rows],)


def training(max_epochs: int = 6, warmup: int = 0, **options: object) -> Training:
    with seeded(0):
        program = Program(VAE(data_dim=8, latent_dim=2, hidden=(16,)).double()).bind((X,))
    options = {"learning_rate": 0.05, "patience": None, **options}
    return Training(program, (X,), amortized_steps, TrainingOptions(max_epochs, **options), warmup=warmup)


def validate(run: Training) -> Callable[[], float]:
    def elbo() -> float:
        with torch.no_grad(), run.program.running(seed=9, training=False):
            return run.program.log_weights((X,), 4).mean().item()

    return elbo


def test_the_elbo_rises() -> None:
    run = training(50)
    epochs = list(run.epochs(batches, validate(run)))
    assert [e.epoch for e in epochs] == list(range(1, 51))
    assert epochs[-1].elbo_train > epochs[0].elbo_train + 1
    assert epochs[0].elbo_valid + 1 < epochs[-1].elbo_valid < -math.log(2)


def test_the_same_seed_gives_the_same_numbers_whatever_the_global_state() -> None:
    runs = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        run, rows = training(), []
        for epoch in run.epochs(batches, validate(run)):
            torch.rand(3)
            rows.append(epoch)
        runs.append(rows)
    assert runs[0] == runs[1]
    other = training(seed=1)
    assert list(other.epochs(batches, validate(other))) != runs[0]


STATES = [
    {},
    {"ema_decay": 0.7},
    {"optimizer": "radam", "weight_decay": 0.1, "schedule": "plateau", "warmup_steps": 7, "learning_rate": 1.0},
]


@pytest.mark.parametrize("options", STATES, ids=str)
def test_resumed_after_any_epoch_it_gives_the_numbers_of_a_run_that_was_not_stopped(options: dict[str, Any]) -> None:
    whole = training(**options)
    expected = list(whole.epochs(batches, validate(whole)))
    for stop in (1, 4):
        first = training(**options)
        stream = first.epochs(batches, validate(first))
        rows = [next(stream) for _ in range(stop)]
        tensors, numbers = first.state()
        copies = {name: tensor.clone() for name, tensor in tensors.items()}
        second = training(**options)
        second.load_state(copies, numbers)
        rows += second.epochs(batches, validate(second))
        assert rows == expected
        state = second.program.state()
        assert all(torch.equal(tensor, state[name]) for name, tensor in whole.program.state().items())


def skipping(seed: int, skip: int = 0) -> Iterator[Batch]:
    yield from list(batches(seed))[skip:]


def stretches(run: Training) -> Iterator[Epoch | None]:
    return run.stretches(skipping, validate(run))


INTERVALS = [{"checkpoint_every": 1}, {"validate_every": 2}, {"validate_every": 5, "checkpoint_every": 2}]


@pytest.mark.parametrize("options", [*INTERVALS, {"validate_every": 4, "ema_decay": 0.7, "max_steps": 11}], ids=str)
def test_resumed_after_any_stretch_it_gives_the_numbers_of_a_run_that_was_not_stopped(options: dict[str, Any]) -> None:
    """An epoch has three steps. A checkpoint is taken after every stretch, in the middle of epochs and of rounds."""
    whole, states, expected = training(4, **options), [], []
    for row in stretches(whole):
        expected.append(row)
        tensors, numbers = whole.state()
        states.append(({name: tensor.clone() for name, tensor in tensors.items()}, numbers))
    assert len(expected) > 4
    for number in range(0, len(states), 2):
        second = training(4, **options)
        second.load_state(*states[number])
        assert expected[: number + 1] + list(stretches(second)) == expected
        state = second.program.state()
        assert all(torch.equal(tensor, state[name]) for name, tensor in whole.program.state().items())


def test_pauses_for_checkpoints_do_not_change_a_number() -> None:
    plain, paused = training(3), training(3, checkpoint_every=1)
    rows = list(plain.epochs(skipping, validate(plain)))
    some = list(stretches(paused))
    assert [row is None for row in some] == [True, True, False] * 3
    assert [row for row in some if row] == rows
    assert [row.step for row in rows] == [3, 6, 9]


def test_the_rate_rises_within_an_epoch() -> None:
    """Three steps an epoch; the warm-up of six steps has a stair for each."""
    run, rates = training(3, schedule="constant", warmup_steps=6), list[float]()
    for _ in stretches(run):
        rates.append(run.optimizer.param_groups[0]["lr"] / 0.05)
    assert rates == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1])


def test_rounds_may_be_shorter_or_longer_than_an_epoch() -> None:
    run = training(3, validate_every=2)
    rows = list(run.epochs(skipping, validate(run)))
    assert [(row.epoch, row.step) for row in rows] == [(1, 2), (2, 4), (2, 6), (3, 8), (3, 9)]  # the last is the end
    long = training(5, validate_every=6)
    assert [(row.epoch, row.step) for row in long.epochs(skipping, validate(long))] == [(2, 6), (4, 12), (5, 15)]
    # A round's training ELBO is the mean over the data of its steps, whatever the pauses between them.
    each = training(5, validate_every=1, schedule="constant")
    elbos = [row.elbo_train for row in each.epochs(skipping, validate(each))]
    by_six = training(5, validate_every=6, checkpoint_every=2, schedule="constant")
    first = next(by_six.epochs(skipping, validate(by_six)))
    assert first.elbo_train == pytest.approx(sum(e * n for e, n in zip(elbos, [16, 16, 8] * 2, strict=False)) / 80)


def test_rounds_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr("ppl_vae.inference.training.time.perf_counter", lambda: next(clock))
    run = training(3, validate_every="10s")
    rows = list(run.epochs(skipping, validate(run)))
    assert 1 < len(rows) < 9
    assert rows[-1].step == 9
    paths = [training(3, schedule="constant", validate_every=every) for every in ("10s", None)]
    for path in paths:
        list(path.epochs(skipping))
    tensors = [path.state()[0] for path in paths]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0] if name.startswith("last."))


def test_patience_counts_validations() -> None:
    run, elbos = training(100, patience=3, validate_every=1), iter([1.0, 5.0, 2.0, 4.0, 3.0, 9.0])
    rows = list(run.epochs(skipping, lambda: next(elbos)))
    assert [(row.step, row.best_step) for row in rows] == [(1, 1), (2, 2), (3, 2), (4, 2), (5, 2)]


def test_a_training_ends_after_a_number_of_steps_and_goes_on_with_more() -> None:
    options = {"schedule": "constant", "checkpoint_every": 1}
    run, whole = training(4, max_steps=5, **options), training(4, **options)
    rows = list(run.epochs(skipping, validate(run)))
    assert [(row.epoch, row.step) for row in rows] == [(1, 3), (2, 5)]
    tensors, numbers = run.state()
    more = training(4, **options)
    more.load_state({name: tensor.clone() for name, tensor in tensors.items()}, numbers)
    list(more.epochs(skipping, validate(more)))
    list(whole.epochs(skipping, validate(whole)))
    (one, _), (other, _) = more.state(), whole.state()
    assert all(torch.equal(one[name], other[name]) for name in one if name.startswith("last."))


@pytest.mark.parametrize("value", [0, "0s", "-5", "5 parsecs", "", 2.5, True])
def test_what_is_no_interval_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"^validate_every is .*: expected a number of steps, or a time such as"):
        TrainingOptions(validate_every=value).check()


def test_the_best_parameters_are_kept_and_patience_ends_it() -> None:
    run, elbos = training(100, patience=3), iter([1.0, 5.0, 2.0, 4.0, 3.0, 9.0])
    seen: dict[int, Tensor] = {}
    for epoch in run.epochs(batches, lambda: next(elbos)):
        seen[epoch.epoch] = run.parameters["decoder.0.weight"].clone()
        assert epoch.best_epoch == min(epoch.epoch, 2)
    assert list(seen) == [1, 2, 3, 4, 5]
    assert torch.equal(run.parameters["decoder.0.weight"], seen[2])


def test_patience_begins_after_a_warm_up() -> None:
    run, elbos = training(100, patience=3, warmup=6), iter([5.0, *[1.0] * 20])
    assert [epoch.epoch for epoch in run.epochs(batches, lambda: next(elbos))] == list(range(1, 10))


def test_averages_of_the_parameters_are_validated_and_kept() -> None:
    """Training goes on from the parameters themselves, as it would without averages."""
    name, plain, seen = "decoder.0.weight", training(4), []
    path: list[Tensor] = []

    def recorded(program: BoundProgram, batches: Iterable[Batch], optimizer: torch.optim.Optimizer) -> Iterator[Step]:
        for step in amortized_steps(program, batches, optimizer):
            path.append(plain.parameters[name].detach().clone())
            yield step

    plain.steps = recorded
    start = plain.parameters[name].detach().clone()
    rows = [epoch.elbo_train for epoch in plain.epochs(batches)]
    run = training(4, ema_decay=0.8)

    def look() -> float:
        seen.append(run.parameters[name].detach().clone())
        return float(len(seen))

    assert [epoch.elbo_train for epoch in run.epochs(batches, look)] == rows
    average, expected = start, []
    for number, value in enumerate(path):
        decay = min(0.8, number / (number + 9))
        average = decay * average + (1 - decay) * value
        expected.append(average)
    torch.testing.assert_close(seen, expected[2::3])  # three batches an epoch
    torch.testing.assert_close(run.parameters[name].detach(), expected[-1])


def test_a_checkpoint_without_averages_is_not_resumed_with_them() -> None:
    tensors, numbers = training().state()
    with pytest.raises(InputError, match="the checkpoint has no averages of the parameters"):
        training(ema_decay=0.9).load_state(tensors, numbers)


def test_schedules() -> None:
    cosine = [epoch.learning_rate for epoch in training(5).epochs(batches)]
    assert cosine == pytest.approx([0.05 * (1 + math.cos(math.pi * t / 5)) / 2 for t in range(5)])
    constant = [epoch.learning_rate for epoch in training(5, schedule="constant").epochs(batches)]
    assert constant == [0.05] * 5
    run = training(2, validate_every=2)
    run.num_batches = 3
    rates = [epoch.learning_rate for epoch in run.epochs(skipping, validate(run))]
    done = [0, 0 + 1, 1 + 1 / 3]  # epochs at the last change, which is a validation or the start of an epoch
    assert rates == pytest.approx([0.05 * (1 + math.cos(math.pi * t / 2)) / 2 for t in done])


def test_a_loss_that_turns_nan_names_the_batch_and_keeps_the_last_good_parameters() -> None:
    run = training()
    stream = run.epochs(batches, validate(run))
    good = {}
    for _ in range(2):
        next(stream)
        if run.best_epoch == run.epoch:
            good = {name: tensor.clone() for name, tensor in run.program.state().items()}

    def poisoned(seed: int) -> Iterator[Batch]:
        for number, (x,) in enumerate(batches(seed)):
            yield (x * math.nan,) if number == 1 else (x,)

    with pytest.raises(Diverged, match=r"the loss is nan at epoch 3, batch 2 of 3: lower the learning rate"):
        next(run.epochs(poisoned, validate(run)))
    assert all(torch.equal(tensor, good[name]) for name, tensor in run.program.state().items())
    assert run.epoch == 2


def test_parameters_that_turn_nan_in_the_last_step_are_not_kept() -> None:
    run = training()

    def spoil(program: BoundProgram, batches: Iterable[Batch], optimizer: torch.optim.Optimizer) -> Iterator[Step]:
        yield from amortized_steps(program, batches, optimizer)
        with torch.no_grad():
            next(iter(run.parameters.values())).fill_(math.nan)

    next(run.epochs(batches))
    run.steps = spoil
    with pytest.raises(
        Diverged, match=r"a parameter is not finite after epoch 2, .* the parameters of epoch 1 are kept"
    ):
        next(run.epochs(batches))
    assert all(torch.isfinite(tensor).all() for tensor in run.program.state().values())


def test_a_stop_in_the_first_epoch_leaves_no_trace() -> None:
    run, expected = training(), list(training().epochs(batches))

    def stopped(seed: int) -> Iterator[Batch]:
        yield next(batches(seed))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(run.epochs(stopped))
    rows = list(run.epochs(batches))
    assert [row[:2] for row in rows] == [row[:2] for row in expected]


@pytest.mark.parametrize("moment", ["_snapshot", "_run_stretch"])
def test_a_stop_at_any_moment_leaves_a_whole_epoch(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = training()
    expected = list(whole.epochs(batches, validate(whole)))
    run, rows = training(), []
    original = getattr(run, moment)

    def stopped(*args: object) -> object:
        result = original(*args)
        if len(rows) == 3:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(run, moment, stopped)
    stream = run.epochs(batches, validate(run))
    rows.extend(next(stream) for _ in range(3))
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    tensors, numbers = run.state()
    second = training()
    second.load_state(tensors, numbers)
    assert second.last_row == rows[-1]
    assert rows + list(second.epochs(batches, validate(second))) == expected


def test_called_again_it_goes_on_from_the_last_epoch_not_from_the_best() -> None:
    whole = training()
    elbos = [3.0, 2.0, 1.0, 4.0, 5.0, 6.0]
    values = iter(elbos)
    expected = list(whole.epochs(batches, lambda: next(values)))
    run, again = training(), iter(elbos)
    rows = []
    for row in run.epochs(batches, lambda: next(again)):
        rows.append(row)
        if len(rows) == 3:
            break
    rows += run.epochs(batches, lambda: next(again))
    assert rows == expected


def test_a_validation_elbo_that_is_nan_stops_the_run() -> None:
    with pytest.raises(Diverged, match="the validation ELBO is nan after epoch 1"):
        next(training().epochs(batches, lambda: math.nan))


def test_state_of_another_program_is_refused() -> None:
    run = training()
    next(run.epochs(batches))
    tensors, numbers = run.state()
    broken = {k: v for k, v in tensors.items() if not k.startswith("optimizer.decoder.0.weight")}
    with pytest.raises(InputError, match=r"no optimiser state of 'decoder.0.weight'"):
        training().load_state(broken, numbers)


def test_nothing_is_left_in_pyros_global_state_between_epochs() -> None:
    run = training(2)
    for _ in run.epochs(batches):
        assert len(pyro.get_param_store()) == 0
        assert pyro.settings.get("validate_distributions_pyro")
        assert run.program.module.training


def test_steps_reach_the_optimum_of_a_conjugate_program() -> None:
    """The guide can be the posterior N(2x/3, 1/3): its ELBO is then the evidence, without any noise."""
    x = normal(64)
    module = Conjugate().double()
    program = Program(module).bind((x,))
    steps = partial(amortized_steps, options=AmortizedOptions(num_particles=4))
    for _ in Training(program, (x,), steps, TrainingOptions(300, learning_rate=0.1)).epochs(lambda seed: [(x,)]):
        pass
    with torch.no_grad():
        assert module.encoder.weight[0, 0].item() == pytest.approx(2 / 3, abs=1e-2)
        weights = program.log_weights((x,), 100)
    short = module.log_evidence(x) - weights.mean(0)
    assert abs(short.mean()) < 1e-3
    assert short.abs().max() < 1e-2  # a KL of 1e-3 leaves 100 draws a standard error of 4e-3
