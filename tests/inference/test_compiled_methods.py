"""Every method of inference, compiled: the numbers of Python, the same again, and on from where it was stopped."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae.inference import (
    AmortizedOptions,
    Compile,
    Compiler,
    Epoch,
    FamilyName,
    LocalElbo,
    LocalSteps,
    Rows,
    Step,
    Table,
    Training,
    TrainingOptions,
    amortized_steps,
    make_family,
    per_sample_steps,
    semi_amortized_steps,
)
from ppl_vae.program import Batch, BoundProgram, LatentSpace, Program, seeded, without_guide
from tests.helpers.laws import traced
from tests.helpers.scenarios import normal

X = normal(40, 4)


class Noisy(nn.Module):
    """Dropout, running averages, and a weight of the divergence that is a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4), nn.Dropout(0.3))
        self.decoder = nn.Linear(2, 4)
        self.register_buffer("weight", torch.tensor(1.0))

    def change(self, z: Tensor) -> Any:
        """Return the factor of a decoded latent."""
        return 1.0

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            with pyro.poutine.scale(scale=self.weight):
                z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z) * self.change(z), 0.7).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)), pyro.poutine.scale(scale=self.weight):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def make_noisy(cls: type[nn.Module] = Noisy) -> BoundProgram:
    with seeded(0):
        return Program(cls().double()).bind((X,))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ppl_vae.compile.compiler.compiled", traced)


def assert_close(actual: Iterable[Tensor], expected: Iterable[Tensor], tolerance: float = 1e-10) -> None:
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# ------------------------------------------------------------------------------------------------------------ a run


Run = tuple[list[Epoch], dict[str, Tensor]]


def trained(mode: Compile, stops: Sequence[int] = (10,), anneals: bool = True) -> Run:
    """Return the rows of ten epochs of two batches of 16 and one of 8, and the state of the program at their end.

    The learning rate falls from epoch to epoch, and the divergence's weight rises.
    """
    rows: list[Epoch] = []
    state = None
    for stop in stops:
        program, compiler = make_noisy(), Compiler(mode, say=pytest.fail)

        def batches(seed: int, program: BoundProgram = program) -> Iterator[Batch]:
            program.module.weight.fill_(0.1 * len(rows) if anneals else 1.0)
            for some in torch.randperm(40, generator=torch.Generator().manual_seed(seed)).split(16):
                yield (X[some],)

        steps = partial(amortized_steps, options=AmortizedOptions(clip_norm=20.0), compiler=compiler)
        training = Training(program, (X,), steps, TrainingOptions(10, learning_rate=0.02))
        if state is not None:
            tensors, numbers = state
            training.load_state({name: tensor.clone() for name, tensor in tensors.items()}, numbers)
        for row in training.epochs(batches):
            rows.append(row)
            if len(rows) == stop:
                break
        state = training.state()
        assert compiler.graphs == ({"the step of Noisy"} if mode == "on" else set())
    return rows, program.state()


@pytest.fixture(scope="module")
def compiled_run() -> Run:
    """Return a run compiled by Inductor."""
    return trained("on")


def test_thirty_compiled_steps_are_those_of_python(compiled_run: Run) -> None:
    """The ELBOs and the final state agree in double precision, with dropout, clipping and a last, smaller batch."""
    (rows, state), (expected, own) = compiled_run, trained("off")
    for row, other in zip(rows, expected, strict=True):
        assert row.elbo_train == pytest.approx(other.elbo_train, rel=1e-10)
        assert row.learning_rate == other.learning_rate
    assert_close(state.values(), own.values())
    assert state["module.encoder.1.num_batches_tracked"] == 30
    assert not torch.equal(state["module.encoder.1.running_mean"], torch.zeros(4))
    assert trained("off", anneals=False)[0][-1].elbo_train != pytest.approx(rows[-1].elbo_train, rel=1e-2)


@pytest.mark.slow
def test_a_compiled_run_that_is_stopped_and_resumed_repeats_itself_bit_for_bit(compiled_run: Run) -> None:
    """The run is compiled anew before the stop and after it; ``cli/test_fit`` always does so with PyTorch's kernels."""
    (rows, state), (expected, own) = trained("on", stops=(4, 10)), compiled_run
    assert [row._replace(elbo_valid=0) for row in rows] == [row._replace(elbo_valid=0) for row in expected]
    assert all(torch.equal(tensor, own[name]) for name, tensor in state.items())


# ----------------------------------------------------------------------------------------------------- left to Python


class Branches(Noisy):
    def change(self, z: Tensor) -> Any:
        if z.mean() > 0:
            return 1.1
        return 0.9


class TakesAnItem(Noisy):
    def change(self, z: Tensor) -> Any:
        return 1 + 0.1 * z.mean().item()


class LeavesPytorch(Noisy):
    def change(self, z: Tensor) -> Any:
        return 1 + 0.1 * float(np.tanh(z.detach().numpy()).mean())


class DrawsByPython(Noisy):
    def change(self, z: Tensor) -> Any:
        return random.uniform(0.9, 1.1)


class DrawsByNumpy(Noisy):
    def change(self, z: Tensor) -> Any:
        return np.random.uniform(0.9, 1.1)


class Scheduled(Noisy):
    """A factor that the caller sets from step to step."""

    now = 1.0

    def change(self, z: Tensor) -> Any:
        return self.now


class Counts(Noisy):
    """A number of steps that the program counts itself."""

    steps = 0

    def change(self, z: Tensor) -> Any:
        self.steps += self.training
        return 1 + 0.1 * self.steps


class Keeps(Noisy):
    """A running average that is a new tensor every time."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("level", torch.zeros(2))

    def change(self, z: Tensor) -> Any:
        if self.training:
            self.level = 0.9 * self.level + 0.1 * z.detach().mean(0)
        return 1 + self.level.mean()


class ReadsABuffer(Noisy):
    """A factor in a buffer that the caller changes."""

    def change(self, z: Tensor) -> Any:
        return self.weight.item()


class Remembers(Noisy):
    """A list of the last latents."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def change(self, z: Tensor) -> Any:
        if self.training:
            self.seen.append(z.detach().mean())
        return 1 + sum(self.seen[-3:])


DRAWS = "it draws from Python's or NumPy's random numbers, which a graph would freeze"
LEFT: list[Any] = [
    (Branches, "`if z.mean() > 0:`: Python looks at the value of a tensor"),
    (TakesAnItem, "`return 1 + 0.1 * z.mean().item()`: Python looks at the value of a tensor"),
    pytest.param(
        LeavesPytorch,
        "`return 1 + 0.1 * float(np.tanh(z.detach().numpy()).mean())`: Python looks at the value of a",
        marks=pytest.mark.slow,
    ),
    (DrawsByPython, DRAWS),
    pytest.param(DrawsByNumpy, DRAWS, marks=pytest.mark.slow),
    (Scheduled, "in call 2 its graph was off by"),
    (Counts, "it changes Counts.steps, which a graph would leave as it is"),
    (Keeps, "it changes Keeps.level, which a graph would leave as it is"),
    (ReadsABuffer, "`return self.weight.item()`: Python looks at the value of a tensor"),
    pytest.param(Remembers, "it changes Remembers.seen, which a graph would leave as it is", marks=pytest.mark.slow),
]


def stepped(
    program: BoundProgram, compiler: Compiler | None, steps: Callable[..., Iterator[Step]] = amortized_steps, **how: Any
) -> list[Tensor]:
    """Return the ELBOs of ten steps and the state after them, with a draw from each generator."""
    optimizer = how.pop("optimizer", torch.optim.Adam)(program.parameters().values(), lr=0.01)
    random.seed(5)
    np.random.seed(5)

    def batches() -> Iterator[Batch]:
        for number in range(10):
            program.module.now = 1 + 0.1 * number
            program.module.weight.fill_(program.module.now)
            yield (X[:16],) if number % 3 else (X[16:24],)

    with program.running(seed=6, training=True):
        values = [step.elbo for step in steps(program, batches(), optimizer, compiler=compiler, **how)]
        drawn = torch.rand(2).double(), torch.tensor([random.random(), np.random.rand()])
    return [*values, *program.state().values(), *drawn]


@pytest.mark.parametrize(("cls", "why"), LEFT)
def test_a_program_that_is_no_graph_has_the_numbers_of_python(cls: type[Noisy], why: str, quick: None) -> None:
    """They agree bit for bit if it has never been a graph, and one line reports the statement."""
    said: list[str] = []
    actual = stepped(make_noisy(cls), Compiler("on", say=said.append))
    if cls is Scheduled:  # this is noticed in the second call: the first one's numbers are the graph's
        assert_close(actual, stepped(make_noisy(cls), None), 1e-12)
    else:
        assert all(torch.equal(a, b) for a, b in zip(actual, stepped(make_noisy(cls), None), strict=True))
    assert len(said) == 1
    assert said[0].startswith(f"the step of {cls.__name__} is not compiled: ")
    assert why in said[0]
    assert ("of test_compiled_methods.py, `" in said[0]) == ("`" in why)


def local_elbo(program: BoundProgram, compiler: Compiler | None, kind: FamilyName = "diagonal") -> LocalElbo:
    return LocalElbo(LatentSpace(without_guide(program)), make_family(kind, 2), compiler)


def refined_steps(program: BoundProgram, *how: Any, compiler: Compiler | None) -> Iterator[Step]:
    return semi_amortized_steps(
        program, *how, local_elbo(program, compiler), LocalSteps(2, 0.1), encoder_objective="refined"
    )


METHODS: dict[str, tuple[Callable[..., Iterator[Step]], dict[str, Any], str]] = {
    "decaying average": (
        amortized_steps,
        {"options": AmortizedOptions(gradient="score-function", baseline="decaying-average")},
        "its baseline goes from one step to the next",
    ),
    "refined": (refined_steps, {}, "the refined objective is too large"),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_is_no_graph_has_the_numbers_of_python(name: str, quick: None) -> None:
    steps, how, why = METHODS[name]
    said: list[str] = []
    compiler, results = Compiler("on", say=said.append), []
    for chosen in (compiler, None):
        results.append(stepped(make_noisy(), chosen, steps, **how))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert len(said) == 1
    assert said[0].startswith("the step of Noisy is not compiled: ")
    assert why in said[0]
    assert "the step of Noisy" not in compiler.graphs


def test_the_gradient_of_another_optimiser_is_a_graph(quick: None) -> None:
    compiler = Compiler("on", say=pytest.fail)
    runs = [stepped(make_noisy(), chosen, optimizer=torch.optim.Adagrad) for chosen in (compiler, None)]
    assert_close(*runs)
    assert compiler.graphs == {"the gradient of the step of Noisy"}


# -------------------------------------------------------------------------------------------------- other gradients


@pytest.mark.parametrize("baseline", ["leave-one-out", pytest.param("none", marks=pytest.mark.slow)])
def test_the_score_function_is_a_graph(baseline: Any, quick: None) -> None:
    compiler = Compiler("on", say=pytest.fail)
    how = {"options": AmortizedOptions(gradient="score-function", baseline=baseline, num_particles=3)}
    program = make_noisy()
    program.module.encoder[1] = nn.Identity()  # which has no draws in front
    assert_close(stepped(program, compiler, **how), stepped_without_norm(how))
    assert compiler.graphs == {"the step of Noisy"}


def stepped_without_norm(how: dict[str, Any]) -> list[Tensor]:
    program = make_noisy()
    program.module.encoder[1] = nn.Identity()
    return stepped(program, None, **how)


# ------------------------------------------------------------------------------------------------------- lambda


def local_run(steps: Any, compiler: Compiler | None, kind: FamilyName) -> list[Tensor]:
    """Return the ELBOs of four epochs of two batches, which have one graph, and the final table and state."""
    program = make_noisy()
    local, how = local_elbo(program, compiler, kind), {"clip_norm": 5.0}
    table = Table(40, local.family.width, torch.float64)
    adam = torch.optim.Adam(program.parameters().values(), lr=0.01)
    values = []
    with program.running(seed=7, training=True):
        for epoch in range(1, 5):
            batches: list[Batch] = [(X[some], some) for some in torch.randperm(40).split(20)]
            if steps is semi_amortized_steps:
                yielded = steps(program, [batch[:1] for batch in batches], adam, local, LocalSteps(2, 0.1), **how)
            else:
                yielded = steps(program, batches, adam, local, LocalSteps(2, 0.1), table=table.epoch(epoch), **how)
            values += [step.elbo for step in yielded]
    return [*values, torch.from_numpy(table.after(4)).nan_to_num(), *program.state().values()]


@pytest.mark.parametrize("kind", ["diagonal", pytest.param("full", marks=pytest.mark.slow)])
@pytest.mark.parametrize("steps", [per_sample_steps, semi_amortized_steps])
def test_training_with_a_lambda_for_every_datum(steps: Any, kind: FamilyName, quick: None) -> None:
    compiler = Compiler("on", say=pytest.fail)
    assert_close(local_run(steps, compiler, kind), local_run(steps, None, kind), 1e-9)
    name = "the step of Noisy" + (" in theta" if steps is per_sample_steps else "")
    assert compiler.graphs == {name, f"a step in lambda ({kind})"}


def test_a_flow_is_left_to_python(quick: None) -> None:
    """Its coupling layers select by masks."""
    said: list[str] = []
    actual = local_run(per_sample_steps, Compiler("on", say=said.append), "flow")
    assert_close(actual, local_run(per_sample_steps, None, "flow"), 1e-9)
    names = ("a step in lambda (flow)", "the step of Noisy in theta")
    assert [line.split(" is not compiled: ")[0] for line in said] == list(names)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_steps_in_lambda_compiled_by_inductor(kind: FamilyName) -> None:
    """They agree before half of the data have converged and after it; the random generator moves on as in Python."""
    program = make_noisy()
    local = local_elbo(program, None, kind)
    with seeded(7):
        near = local.ascend((X,), local.at_prior((X,)), LocalSteps(300, 0.3, 16))
    results = []
    for compiler in (None, Compiler("on", say=pytest.fail)):
        local, refined = local_elbo(program, compiler, kind), []
        with seeded(8):
            for some in (slice(6), slice(6, 12)):
                lam = torch.where(torch.arange(6)[:, None] < 2, 0.0, near.lam[some])  # two have a way to go
                refined.append(local.ascend((X[some],), Rows.at(lam), LocalSteps(200, 0.02, 16)))
            results.append([*(rows.joined() for rows in refined), torch.rand(1)])
        assert refined[0].taken.min() < 200, "some have to converge on the way"
    assert compiler is not None
    assert compiler.graphs == {f"a step in lambda ({kind})"}
    assert_close(results[1], results[0], 1e-8)
