"""Recurrences in graphs: a graph sees one operation, whose steps are graphs of their own."""

from __future__ import annotations

import logging
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn

from ppl_vae.compile import kernels, private
from ppl_vae.compile.kernels import compiled
from ppl_vae.networks import recur, recurrence, unrolled
from ppl_vae.program import seeded


class Elman(nn.Module):
    """A cell whose steps save numbers and truth values for the way back."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        return torch.where(h + x > -1, (self.inner(h) + x).tanh(), h * x)


def test_the_steps_of_graphs_of_all_lengths_are_compiled_once_and_equal_a_plain_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Context is given with the sequence first, so that the distance between its rows depends on the length."""
    counted = Mock(side_effect=private.inductor)
    monkeypatch.setattr(private, "inductor", counted)
    with seeded(0):
        cell = Elman().double()

    def gradients(run: Any, context: Tensor) -> tuple[Tensor, ...]:
        leaves = [context.detach().requires_grad_(), *cell.parameters()]
        state = torch.zeros(1, 3, dtype=torch.double).expand(5, 3)
        states = run(cell, state, leaves[0].movedim(1, 0))
        above = torch.linspace(-1, 2, states.numel(), dtype=torch.double).reshape_as(states.mT).mT
        return (states, *torch.autograd.grad([states], leaves, [above]))

    for steps in (recurrence.SHORT + 1, recurrence.SHORT + 4):
        with seeded(steps):
            context = torch.randn(5, steps, 3, dtype=torch.double)
        graph = compiled(lambda context: gradients(recur, context), [context], cell)
        expected = gradients(unrolled, context)
        for _ in range(2):
            torch.testing.assert_close(graph(context), expected, rtol=1e-10, atol=1e-10)
    assert counted.call_count == 2 + 2  # a graph of each length, and a step forwards and a step backwards of all


def test_the_cache_tells_compiled_steps_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with seeded(0):
        cell = Elman().double()
        state, inputs = torch.randn(2, 3, dtype=torch.double), torch.randn(recurrence.SHORT, 2, 3, dtype=torch.double)
    steps = Mock(side_effect=kernels._CompiledStep.write, autospec=True)
    monkeypatch.setattr(kernels._CompiledStep, "write", lambda *args: steps(*args))

    def run(state: Tensor, inputs: Tensor) -> tuple[Tensor, ...]:
        return (recur(cell, state, inputs),)

    with monkeypatch.context() as without:
        without.setattr(kernels, "_compile_loops", lambda module: None)
        compiled(run, [state, inputs], cell)(state, inputs)
    assert steps.call_count == 0
    compiled(run, [state, inputs], cell)(state, inputs)
    assert steps.call_count == len(inputs)


def test_a_step_that_is_not_compiled_runs_in_python_with_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However many numbers of rows it has."""
    monkeypatch.setattr(private, "inductor", Mock(side_effect=RuntimeError("no compiler")))
    step = kernels._CompiledStep(lambda x, num_rows: (x.sum(0) / num_rows,))
    with caplog.at_level(logging.WARNING, logger="ppl_vae"):
        for num_rows in (2, 4, 2):
            mean = torch.empty(3)
            step.write([mean], torch.full((num_rows, 3), 5.0), num_rows)
            torch.testing.assert_close(mean, torch.full((3,), 5.0))
    (line,) = (record.getMessage() for record in caplog.records if record.name == "ppl_vae")
    assert line.startswith("a step of a recurrence is not compiled, and takes longer: Inductor cannot compile it")
    assert line.endswith("(RuntimeError: no compiler)")
