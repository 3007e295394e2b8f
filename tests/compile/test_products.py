"""Products of graphs: the library depends on the size, and results and settings stay what they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from ppl_vae.cli.command import medium_is_exact
from ppl_vae.compile import private
from ppl_vae.compile.graph import trace
from ppl_vae.compile.kernels import compiled
from ppl_vae.compile.products import EXACT, PRODUCTS, SMALL, by_size
from ppl_vae.program.process import fp32_products, seeded


@pytest.fixture
def medium() -> Iterator[None]:
    with fp32_products("medium", torch.device("cpu")):
        yield


@pytest.mark.parametrize("name", PRODUCTS)
def test_small_products_are_exact_and_large_ones_as_they_were(name: str) -> None:
    batch, terms = (5,) * name.startswith(("b",)), name in ("addmm", "baddbmm")
    chosen: list[str] = []
    multiply = by_size(getattr(torch, name), lambda: "bf16", chosen.append)
    inner = int(SMALL / (2 * (batch or (1,))[0] * 10 * 20))  # a large product; one column less is a small one
    for columns in (inner, inner - 1):
        with seeded(0):
            a, b = torch.randn(*batch, 10, columns).double(), torch.randn(*batch, columns, 20).double()
        out = a.new_empty(*batch, 10, 20)
        result = multiply(torch.ones_like(out), a, b, beta=2, out=out) if terms else multiply(a, b, out=out)
        assert result is out
        torch.testing.assert_close(out, a @ b + 2 * terms, rtol=1e-12, atol=1e-12)
    assert chosen == [EXACT, "bf16"]


def test_a_product_that_fails_leaves_the_precision() -> None:
    chosen: list[str] = []
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        by_size(torch.mm, lambda: "bf16", chosen.append)(torch.ones(2, 3), torch.ones(4, 2), out=torch.ones(2, 2))
    assert chosen == [EXACT, "bf16"]


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="this build of PyTorch has no MKL")
def test_graphs_choose_by_size(monkeypatch: pytest.MonkeyPatch, medium: None) -> None:
    chosen: list[str] = []

    def noted(product: Any, precision: Any, set_precision: Any) -> Any:
        return by_size(product, precision, lambda value: (chosen.append(value), set_precision(value)))

    monkeypatch.setattr(private, "by_size", noted)
    with seeded(0):
        small, large = torch.randn(11, 13), torch.randn(13, 701)
        weight = torch.randn(701, 1201)
    graph = compiled(lambda x: ((x @ large).relu() @ weight, small.T @ small), [small])
    first, second = graph(small)
    assert chosen[::2] == [EXACT] * 2  # 11 x 13 x 701 and 13 x 11 x 13; 11 x 701 x 1201 is large
    assert set(chosen[1::2]) == {torch.backends.mkldnn.matmul.fp32_precision}
    assert torch.get_float32_matmul_precision() == "medium"
    exact = (small.double() @ large.double()).relu() @ weight.double()
    torch.testing.assert_close(second, small.T @ small)
    if medium_is_exact():
        torch.testing.assert_close(first.double(), exact, rtol=1e-4, atol=1e-3)


def test_a_wide_layer_is_multiplied_by_transposes_and_its_gradient_keeps_its_layout() -> None:
    with seeded(0):
        x, layer = torch.randn(32, 784).double(), torch.nn.Linear(784, 400).double()

    def function(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = layer(x).relu()
        return (output, *torch.autograd.grad(output.square().sum(), list(layer.parameters())))

    graph = trace(function, [x]).module.graph
    shapes = [tuple(node.meta["val"].shape) for node in graph.nodes if node.target is torch.ops.aten.mm.default]
    assert shapes == [(400, 32), (400, 784)]  # the layer and the gradient of its weights
    for actual, expected in zip(compiled(function, [x])(x), function(x), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
        assert actual.is_contiguous()


def test_an_operation_that_pytorch_registers_meanwhile_is_its_own() -> None:
    from torch._inductor import select_algorithm

    before = select_algorithm.extern_kernels
    with private.settings():
        select_algorithm.extern_kernels.registered_meanwhile = torch.sin
        assert select_algorithm.extern_kernels.registered_meanwhile is torch.sin
    assert select_algorithm.extern_kernels is before
    assert before.registered_meanwhile is torch.sin
    del before.registered_meanwhile
