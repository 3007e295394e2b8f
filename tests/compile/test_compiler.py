"""The compiler: which functions run as graphs, and when they stop doing so."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn

from ppl_vae.compile.compiler import CHECKED, RARE, REPAID_BY, SAVED
from ppl_vae.compile.graph import Outputs, TensorFunction
from ppl_vae.compile.kernels import Graph, compiled
from ppl_vae.compile.private import LAST_TESTED
from ppl_vae.compile.work import CountedWork, WorkCount
from ppl_vae.data import load_dataset
from ppl_vae.errors import InputError
from ppl_vae.estimator import VariationalInference
from ppl_vae.inference import Compiler
from ppl_vae.models.vae import VAE
from ppl_vae.program import seeded
from tests.helpers.laws import traced

Shapes = list[tuple[torch.Size, ...]]


@pytest.fixture
def shapes_made(monkeypatch: pytest.MonkeyPatch) -> Shapes:
    """Return a list that collects the shapes of the inputs of every graph that is made."""
    shapes: Shapes = []

    def noted(function: TensorFunction, inputs: Sequence[Tensor], module: nn.Module | None) -> Graph:
        shapes.append(tuple(tensor.shape for tensor in inputs))
        return traced(function, inputs, module)

    monkeypatch.setattr("ppl_vae.compile.compiler.compiled", noted)
    return shapes


def double(x: Tensor) -> Outputs:
    return (2 * x,)


# ------------------------------------------------------------------------------------------------------------ policy

ENOUGH = round(REPAID_BY / SAVED)


@pytest.mark.parametrize(
    ("mode", "visits", "times", "saves", "expected"),
    [
        ("off", {5: 10**9}, 1, SAVED, False),
        ("on", {}, 1, SAVED, True),
        ("on", {5: 1}, 1, SAVED, True),
        ("auto", {}, 1, SAVED, False),
        ("auto", {5: ENOUGH}, 1, SAVED, True),
        ("auto", {5: ENOUGH - 1}, 1, SAVED, False),
        ("auto", {6: ENOUGH}, 1, SAVED, False),
        ("auto", {5: ENOUGH // 20}, 20, SAVED, True),
        ("auto", {5: 1}, 1, REPAID_BY, True),
        ("on", {5: 9, 6: 9 * RARE}, 1, SAVED, True),
        ("on", {5: 9, 6: 9 * RARE + 1}, 1, SAVED, False),
    ],
)
def test_the_planned_calls_decide(
    mode: Any,
    visits: dict[int, int],
    times: int,
    saves: float,
    expected: bool,
    shapes_made: Shapes,
) -> None:
    compiler, x = Compiler(mode, visits), torch.ones(5, 2)
    assert compiler.repays(5, times, saves) == expected
    for _ in range(3):
        assert torch.equal(compiler("step", double, [x], times=times, saves=saves)[0], 2 * x)
    assert shapes_made == [((5, 2),)] * expected
    assert compiler.graphs == ({"step"} if expected else set())


def test_the_largest_of_several_plans_counts() -> None:
    compiler = Compiler("auto", {5: 3})
    compiler.plan({5: ENOUGH, 2: 1})
    compiler.plan({5: 7})
    assert compiler.visits == {5: ENOUGH, 2: 1}
    assert compiler.repays(5)
    assert not compiler.repays(2)


def test_the_work_of_the_program_decides() -> None:
    light, heavy = WorkCount(operations=4, bytes=1000), WorkCount(operations=100, bytes=10**6)
    times = round(REPAID_BY / heavy.saved) + 1
    compiler = Compiler("auto", {5: times, 6: times, 7: times})
    compiler.weigh(5, heavy)
    compiler.weigh(6, light)
    assert [compiler.repays(rows) for rows in (5, 6, 7)] == [True, False, times * SAVED >= REPAID_BY]
    assert compiler.choice(5) == f"compiled: {times:,} repay it"


def test_work_is_counted_through_a_gradient() -> None:
    weight = torch.ones(3, requires_grad=True)
    with CountedWork() as forward:
        value = (weight * 2.0).sum()
    with CountedWork() as whole:
        (gradient,) = torch.autograd.grad((weight * 2.0).sum(), weight)
    assert forward.work == WorkCount(2, 4 * 3 + 4)
    assert whole.work.operations > forward.work.operations
    assert (value.item(), gradient.tolist()) == (6.0, [2.0] * 3)


def test_the_choice_is_described() -> None:
    visits = {5: ENOUGH, 2: 1500}
    assert Compiler("auto", visits).choice(5) == f"compiled: {ENOUGH:,} repay it"
    assert Compiler("auto", visits).choice(2) == "not compiled: 1,500 are too few to repay it"
    assert Compiler("auto", visits).choice(2, 20) == "compiled: 30,000 repay it"
    assert Compiler("on").choice(5) == "compiled"
    assert Compiler("off", visits).choice(5) == "not compiled"


def test_an_unknown_mode() -> None:
    with pytest.raises(InputError, match="compile='yes' is unknown"):
        Compiler("yes")  # type: ignore[arg-type]


def test_the_default_fit_is_compiled_and_a_short_one_is_not() -> None:
    """The planned steps decide before the first step."""
    data = load_dataset("digits")
    for epochs, chosen in {
        100: "steps not compiled: 1,900 are too few to repay it",
        500: "steps compiled: 9,500 repay it",
    }.items():
        vi = VariationalInference(VAE(), max_epochs=epochs)
        vi.prepare(data.train, data.valid)
        assert vi.compiles().startswith(chosen)
        assert vi.training_.epoch == 0
    assert VariationalInference(VAE()).max_epochs == 500


def test_every_step_in_lambda_counts(shapes_made: Shapes) -> None:
    x = load_dataset("digits").train["x"][:128]
    for guide, batch, steps in (
        ("per-sample", 64, "steps in lambda not compiled: 2,000"),
        ("per-sample", 1, "steps in lambda compiled: 128,000"),
    ):
        vi = VariationalInference(VAE(hidden=(4,)), guide, max_epochs=50, batch_size=batch)
        vi.prepare({"x": x})
        assert vi.compiles().startswith(steps)
    assert shapes_made == []


# ------------------------------------------------------------------------------------------------------ graphs by key


def test_each_name_shape_precision_and_static_value_has_its_graph(shapes_made: Shapes) -> None:
    compiler, x = Compiler("on"), torch.ones(5, 2)
    for name, static, inputs in (
        ("step", 5, [x]),
        ("step", 5, [x.double()]),
        ("step", 5, [x[:3]]),
        ("step", 2, [x]),
        ("other", 5, [x]),
    ):
        for _ in range(2):
            parts = compiler(name, lambda x: x.split(static), inputs, static=static)  # noqa: B023
            assert [len(part) for part in parts] == [len(part) for part in inputs[0].split(static)]
    assert shapes_made == [((5, 2),), ((5, 2),), ((3, 2),), ((5, 2),), ((5, 2),)]
    assert compiler.graphs == {"step", "other"}


# ----------------------------------------------------------------------------------------------------------- compared


def test_the_first_calls_and_then_fewer_are_compared(shapes_made: Shapes) -> None:
    calls = []

    def eager(x: Tensor) -> Outputs:
        calls.append(number)
        return double(x)

    compiler = Compiler("on")
    for number in range(1, 40):
        compiler("step", double, [torch.full((2,), float(number))], eager=eager)
    assert calls == [1, 2, 3, 4, 8, 16, 32]
    assert CHECKED == 3


def test_graph_and_function_start_from_the_same_state_and_draws(shapes_made: Shapes) -> None:
    """The graph changes the state, and only once."""
    total = torch.zeros(3)

    def function(x: Tensor) -> Outputs:
        total.add_(x + torch.rand(3))
        return (total * 2,)

    compiler, results = Compiler("on", say=pytest.fail), []
    for run in (function, lambda x: compiler("step", function, [x])):
        total.zero_()
        with seeded(1):
            results.append([*(run(torch.ones(3))[0] for _ in range(6)), total.clone(), torch.rand(1)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("changes_at", [2, 3, 4, 8])
def test_a_python_number_that_changes_is_detected(changes_at: int, shapes_made: Shapes) -> None:
    """State, results and draws are those of the function, as if there were no graph, and one line reports it."""
    reports: list[str] = []
    total, factor = torch.zeros(3).double(), 1.0

    def function(x: Tensor) -> Outputs:
        total.add_(x * factor * torch.rand(3).double())
        return (total.clone(),)

    def run(call: TensorFunction) -> list[Tensor]:
        nonlocal factor
        total.zero_()
        with seeded(2):
            results = []
            for number in range(1, 12):
                factor = 1.5 if number >= changes_at else 1.0
                results.append(call(torch.ones(3).double())[0])
            return [*results, total.clone(), torch.rand(1)]

    compiler = Compiler("on", say=reports.append)
    for a, b in zip(run(lambda x: compiler("step", function, [x])), run(function), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert len(reports) == 1
    assert reports[0].startswith(f"step is not compiled: in call {changes_at} its graph was off by 0.")
    assert compiler.graphs == set()
    compiler("step", function, [torch.ones(5)[:3]])
    assert shapes_made == [((3,),)]


TOLERATED: list[tuple[dict[str, Any], torch.dtype, float, bool]] = [
    ({}, torch.float64, 1e-7, True),
    ({}, torch.float64, 1e-5, False),
    ({}, torch.float32, 0.01, True),
    ({}, torch.float32, 0.03, False),
    ({"tolerance": 0.1}, torch.float32, 0.05, True),
    ({"tolerance": 1e-4}, torch.float32, 1e-3, False),
]


@pytest.mark.parametrize(("options", "dtype", "error", "kept"), TOLERATED)
@pytest.mark.parametrize("place", ["output", "state"])
def test_rounding_errors_are_tolerated(
    options: dict[str, Any],
    dtype: torch.dtype,
    error: float,
    kept: bool,
    place: str,
    shapes_made: Shapes,
) -> None:
    """This holds for outputs and for tensors named in ``compared``; other state may differ."""
    reports: list[str] = []
    mean, other, share = torch.ones(3, dtype=dtype), torch.ones(3, dtype=dtype), 1.0

    def function(x: Tensor) -> Outputs:
        mean.add_(x * (share if place == "state" else 1))
        other.add_(x * 10 * share)
        return (x * (share if place == "output" else 1),)

    compiler = Compiler("on", say=reports.append, **options)
    x = torch.ones(3, dtype=dtype)
    compiler("step", function, [x], compared=[mean])
    share = 1.0 + error
    compiler("step", function, [x], compared=[mean])
    assert (compiler.graphs == {"step"}) == kept == (not reports)
    torch.testing.assert_close(other, x * (21 if kept else 21 + 10 * error))


def test_infinities_on_both_sides_are_equal(shapes_made: Shapes) -> None:
    compiler = Compiler("on", say=pytest.fail)
    for _ in range(4):
        (result,) = compiler("step", lambda x: (x.log(),), [torch.tensor([0.0, -1.0, 1.0])])
        assert result[0] == -torch.inf
    assert compiler.graphs == {"step"}


def test_nan_on_one_side_is_a_difference(shapes_made: Shapes) -> None:
    reports, bad = [], 1.0
    compiler = Compiler("on", say=reports.append)

    def function(x: Tensor) -> Outputs:
        return (x * bad,)

    compiler("step", function, [torch.ones(3)])
    bad = float("nan")
    assert compiler("step", function, [torch.ones(3)])[0].isnan().all()
    assert len(reports) == 1


# ------------------------------------------------------------------------------------------------------------ refused


@pytest.mark.parametrize("version", ["2.14.0", "2.14.0a0+git1", "3.0.0+cpu"])
def test_nothing_is_compiled_with_a_version_of_pytorch_that_was_not_tested(
    version: str, shapes_made: Shapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    reports: list[str] = []
    for mode in ("on", "auto", "off"):
        compiler = Compiler(mode, {3: 10**9}, say=reports.append)  # type: ignore[arg-type]
        for _ in range(2):
            assert torch.equal(compiler("doubling", double, [torch.ones(3)])[0], 2 * torch.ones(3))
        assert compiler.choice(3) == "not compiled"
    assert shapes_made == []
    assert reports == 2 * [
        f"nothing is compiled: PyTorch {version} is newer than 2.13, the last version tested with compilation: "
        "install 2.13"
    ]


@pytest.mark.parametrize("version", ["2.6.0", "2.13.1+cu130"])
def test_earlier_versions_are_compiled(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    assert Compiler("on", say=pytest.fail).mode == "on"


def test_the_version_that_was_tested_last_is_the_bound_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    major, minor = LAST_TESTED
    assert f"torch>=2.6,<{major}.{minor + 1}" in project["dependencies"]


def test_a_function_that_cannot_be_traced_runs_in_python_from_then_on(
    shapes_made: Shapes,
) -> None:
    reports, traces = [], []

    def function(x: Tensor) -> Outputs:
        traces.append(1)
        return (x * 2 if x.sum() > 0 else x,)

    compiler = Compiler("on", say=reports.append)
    for size in (3, 3, 4):
        assert torch.equal(compiler("step", function, [torch.ones(size)])[0], 2 * torch.ones(size))
    assert len(traces) == 4  # one trace and three runs
    assert len(reports) == 1
    assert "`return (x * 2 if x.sum() > 0 else x,)`: Python looks at the value of a tensor" in reports[0]
    assert compiler.graphs == set()
    assert torch.equal(compiler("other", double, [torch.ones(3)])[0], 2 * torch.ones(3))
    assert compiler.graphs == {"other"}


def test_lines_go_to_the_log_by_default(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="ppl_vae"):
        for mode in ("on", "off", "auto"):
            compiler = Compiler(mode)  # type: ignore[arg-type]
            for _ in range(2):
                compiler.refuse(f"step ({mode})", "the reason")
    lines = [record.getMessage() for record in caplog.records if record.name == "ppl_vae"]
    assert lines == [f"step ({mode}) is not compiled: the reason" for mode in ("on", "auto")]


@pytest.mark.parametrize("kernels", [traced, pytest.param(compiled, marks=pytest.mark.slow)])
def test_inputs_with_other_strides_have_their_own_graph(kernels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph of a column-major array would read past the end of a row-major one."""
    graphs = Mock(side_effect=kernels)
    monkeypatch.setattr("ppl_vae.compile.compiler.compiled", graphs)
    compiler, x = Compiler("on"), torch.arange(600.0).reshape(200, 3)
    column_major = x.T.contiguous().T
    for rows in (column_major[:50], x[:50], column_major[50:100], x[50:100]):
        for _ in range(6):  # some calls are compared with Python, others are not
            (result,) = compiler("rows", lambda rows: (rows.sum(-1) * 2,), (rows,))
        torch.testing.assert_close(result, 2 * rows.sum(-1))
    assert compiler.graphs == {"rows"}
    assert [call.args[1][0].stride() for call in graphs.call_args_list] == [(1, 200), (3, 1)]
