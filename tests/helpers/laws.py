"""One training step of a program in Pyro, in Python and as a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, config_enumerate
from torch import Tensor, nn

from ppl_vae.compile.graph import TensorFunction, trace
from ppl_vae.compile.kernels import Graph
from ppl_vae.inference import Compiler, amortized_steps, elbo
from ppl_vae.inference.ascent import value_and_gradient
from ppl_vae.program import Batch, BoundProgram, Program, seeded, with_missing
from ppl_vae.program.binding import empty_guide

How = Literal["eager", "traced", "compiled"]
Found = tuple[Tensor, dict[str, Tensor]]
"""The ELBO, nats per datum, and its gradient in every parameter."""
SEED = 1


def traced(function: TensorFunction, inputs: Sequence[Tensor], module: nn.Module | None = None) -> Graph:
    """Return the graph with the kernels of PyTorch; it replaces ``compiled`` and saves a minute of compilation."""
    graph = trace(function, inputs, module)
    return Graph(lambda tensors: graph.module(*tensors), graph.captured)


def by_pyro(
    program: BoundProgram, batch: Batch, *, nesting: int = 1, num_particles: int = 1, num_data: int | None = None
) -> Found:
    """Return the result of ``Trace_ELBO``, or of ``TraceEnum_ELBO`` if latents are summed out.

    Args:
        program: only its functions and its parameters matter.
        batch: the data.
        nesting: plates within each other.
        num_particles: draws per datum.
        num_data: the size to which the data plate is scaled; the batch size by default.
    """
    parameters = program.parameters()
    for parameter in parameters.values():
        parameter.grad = None
    common = {"max_plate_nesting": nesting, "vectorize_particles": num_particles > 1}
    kind, model, guide = Trace_ELBO, program.model, program.guide or empty_guide
    if program.structure.summed:
        kind, model = TraceEnum_ELBO, config_enumerate(model)
    with seeded(SEED), pyro.get_param_store().scope(), pyro.validation_enabled(False):
        loss = kind(num_particles, **common).loss_and_grads(model, guide, *batch)
    share = -1 / (num_data or len(batch[0]))
    gradients = {
        name: torch.zeros_like(parameter) if parameter.grad is None else share * parameter.grad
        for name, parameter in parameters.items()
    }
    return torch.tensor(share * loss, dtype=torch.double), gradients


def by_us(how: How, program: BoundProgram, batch: Batch) -> Found:
    """Return the result of a training step; the gradient comes from the running mean of Adam."""
    parameters = program.parameters()
    if how == "eager":

        def objective(*batch: Tensor) -> Tensor:
            return elbo(program.weighted_draws(batch, tempered=True)).mean()

        with program.running(seed=SEED, training=True):
            value, gradients = value_and_gradient(objective, batch, list(parameters.values()))
        return value.double(), dict(zip(parameters, gradients, strict=True))
    said: list[str] = []
    adam, compiler = torch.optim.Adam(parameters.values(), lr=0.0), Compiler("on", say=said.append)
    with pytest.MonkeyPatch.context() as patch, program.running(seed=SEED, training=True):
        if how == "traced":
            patch.setattr("ppl_vae.compile.compiler.compiled", traced)
        (step,) = amortized_steps(program, [batch], adam, compiler=compiler)
    assert (compiler.graphs, said) == ({f"the step of {program.name}"}, [])
    return step.elbo.double(), {name: adam.state[p]["exp_avg"] / -(1 - 0.9) for name, p in parameters.items()}


def assert_same(found: Found, expected: Found, tolerance: float) -> None:
    """Assert that gradients agree, relative to their norm or to a tenth of the largest one (rounding)."""
    torch.testing.assert_close(found[0], expected[0], rtol=tolerance, atol=0)
    assert found[1].keys() == expected[1].keys()
    largest = max(gradient.norm() for gradient in expected[1].values())
    for name, gradient in expected[1].items():
        assert (found[1][name] - gradient).norm() <= tolerance * max(gradient.norm(), largest / 10), name


def at(dtype: torch.dtype, batch: Batch) -> Batch:
    """Return a batch whose real numbers have this precision."""
    return tuple(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in batch)


TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def assert_equals_pyro(
    make: Callable[[], nn.Module],
    batch: Batch,
    dtype: torch.dtype,
    hows: Iterable[How],
    mask: Tensor | None = None,
    **how_pyro: int,
) -> None:
    """Assert the law: the value and every gradient agree on the same draws; a mask is true for what was seen."""
    results = []
    for how in ("pyro", *hows):
        data = at(dtype, batch)
        with seeded(0):
            program = Program(make().to(dtype)).bind(data)
        if mask is not None:
            program, data = with_missing(program), (*data, mask)
        results.append(by_pyro(program, data, **how_pyro) if how == "pyro" else by_us(how, program, data))
        assert program.module.training
    expected, *found = results
    assert any(gradient.any() for gradient in expected[1].values())
    for each in found:
        assert_same(each, expected, TOLERANCE[dtype])
