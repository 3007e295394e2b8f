"""Graphs on a GPU, which are recorded and replayed; without a GPU, stand-ins do this."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ppl_vae.compile import kernels
from ppl_vae.compile.explain import Untraceable
from ppl_vae.compile.graph import Outputs, trace
from ppl_vae.compile.kernels import Graph
from ppl_vae.inference import Compiler, amortized_steps
from ppl_vae.models.vae import VAE
from ppl_vae.program import Program, seeded
from tests.helpers.scenarios import bits


class Recording(TorchDispatchMode):
    """A stand-in for a CUDA graph: it repeats operations and writes their results to the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        for func, args, kwargs, result in self.calls:
            for place, value in zip(tree_leaves(result), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(place, Tensor) and place.data_ptr() != value.data_ptr():
                    place.copy_(value)


class Stream:
    def wait_stream(self, other: Stream) -> None:
        assert isinstance(other, Stream)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace functions of ``torch.cuda`` by stand-ins, and return a list of what they did, in order."""
    done: list[str] = []

    def without_triton(*_: Any) -> Any:
        raise Untraceable("Inductor cannot compile it (no Triton)")

    def noting(what: str, context: Any) -> Any:
        done.append(what)
        return context

    monkeypatch.setattr(kernels, "_inductor", without_triton)
    for name, stand_in in {
        "get_rng_state": torch.get_rng_state,
        "set_rng_state": torch.set_rng_state,
        "Stream": Stream,
        "current_stream": Stream,
        "CUDAGraph": Recording,
        "stream": lambda stream: noting("warm-up", nullcontext()),
        "graph": lambda recording: noting("recorded", recording),
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return done


def as_cuda_graph(function: Any, inputs: list[Tensor], module: Any = None) -> Graph:
    """Return what ``compiled`` returns for tensors on a GPU."""
    traced = trace(function, inputs, module)
    example = [tensor.detach() for tensor in (*inputs, *traced.captured)]
    return Graph(kernels._cuda_graph(traced.module, example, len(inputs)), example[len(inputs) :])


def test_a_recording_reads_its_inputs_anew_and_returns_separate_outputs(cuda: list[str]) -> None:
    """It changes and draws what the function does, and its warm-up leaves no trace."""
    weight = nn.Parameter(torch.ones(3))

    def function(x: Tensor, rate: Tensor) -> Outputs:
        loss = (weight * x).square().sum() + (weight * torch.randn(3)).sum()
        (gradient,) = torch.autograd.grad(loss, weight)
        with torch.no_grad():
            weight.sub_(rate * gradient)
        return loss.detach(), gradient

    inputs = [(torch.arange(3.0) + n, torch.tensor(0.1 / (n + 1))) for n in range(4)]
    with seeded(1):
        generator = torch.get_rng_state()
        run = as_cuda_graph(function, list(inputs[0]))
        assert torch.equal(torch.get_rng_state(), generator)
        assert torch.equal(weight.detach(), torch.ones(3))
        results = [*(run(*arguments) for arguments in inputs), (weight.detach().clone(),)]
        after = torch.rand(1)
    with torch.no_grad():
        weight.fill_(1.0)
    with seeded(1):
        expected = [*(function(*arguments) for arguments in inputs), (weight.detach(),)]
        assert torch.rand(1) == after
    for outputs, others in zip(results, expected, strict=True):
        for a, b in zip(outputs, others, strict=True):
            torch.testing.assert_close(a, b)
    assert cuda == ["warm-up", "recorded"]
    assert torch.equal(inputs[0][0], torch.arange(3.0))

    with torch.no_grad():  # the weight is read anew, too
        weight.fill_(2.0)
    assert run(*inputs[0])[0] != results[0][0]


def test_steps_of_training_are_recorded(cuda: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole fit has the same numbers as in Python."""
    x, results = bits(20, 6), []
    for mode in ("off", "on"):
        with seeded(0):
            program = Program(VAE(data_dim=6, latent_dim=2, hidden=(5,)).double()).bind((x,))
        adam = torch.optim.Adam(program.parameters().values(), lr=0.01)
        monkeypatch.setattr("ppl_vae.compile.compiler.compiled", as_cuda_graph)
        with program.running(seed=1, training=True):
            steps = amortized_steps(program, [(x[:16],), (x[16:],)] * 4, adam, compiler=Compiler(mode))
            results.append([*(step.elbo for step in steps), *program.state().values()])
    for result, expected in zip(*results, strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-10)
    assert cuda == ["warm-up", "recorded"] * 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("num_particles", [1, 4])
def test_on_a_gpu_compiled_steps_equal_those_in_python(num_particles: int) -> None:
    """There are two sizes of batches; a repeated compiled run is the same bit for bit."""
    x, results, reports = bits(40, 6).cuda(), [], []
    for mode in ("off", "on", "on"):
        with seeded(0):
            program = Program(VAE(data_dim=6, latent_dim=2, hidden=(5,)).double().cuda()).bind((x,))
        adam = torch.optim.Adam(program.parameters().values(), lr=0.01)
        compiler = Compiler(mode, say=reports.append)
        with program.running(seed=1, training=True):
            run = partial(amortized_steps, program, num_particles=num_particles, compiler=compiler)
            steps = list(run([(x[:16],), (x[16:32],), (x[32:],)] * 10, adam))
        results.append([*(step.elbo for step in steps), *program.state().values()])
        assert reports == []
        assert len(compiler.graphs) == (mode == "on")
    for expected, result, repeated in zip(*results, strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-8, atol=1e-8)
        assert torch.equal(result, repeated)
