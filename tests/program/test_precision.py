"""Test the precision of programs: what is double, what is rounded to bfloat16, and what never is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ppl_vae import InputError, VariationalInference
from ppl_vae.compile.graph import trace
from ppl_vae.errors import InputWarning
from ppl_vae.inference import Compiler, amortized_steps
from ppl_vae.models.vae import VAE
from ppl_vae.program import LatentSpace, Precision, Program, fp32_products, seeded, with_lambda, without_guide
from ppl_vae.program.bfloat16 import ProductTimes, measure_products, product_times
from ppl_vae.program.process import BFloat16Products, at_precision
from tests.helpers.chains import shorten_pilot
from tests.helpers.laws import traced
from tests.helpers.scenarios import Images, bits, normal


class Operations(TorchDispatchMode):
    """A mode that records each operation with the precisions of its inputs and results."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, set[torch.dtype], list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.seen.append((str(func.overloadpacket), dtypes((args, kwargs)), numbers(result)))
        return result

    def singles(self) -> set[str]:
        """Return the operations with a result in single precision, except counts of steps."""
        return {
            name
            for name, _, outputs in self.seen
            if any(tensor.dtype != torch.float64 and tensor.dim() for tensor in outputs)
        }

    def products(self) -> list[set[torch.dtype]]:
        """Return the precisions of the inputs of matrix products and convolutions."""
        return [taken for name, taken, _ in self.seen if name.rpartition(".")[2] in PRODUCTS]


PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward", "linear", "mkldnn_linear")


def numbers(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def dtypes(tree: Any) -> set[torch.dtype]:
    return {leaf.dtype for leaf in numbers(tree)}


# ------------------------------------------------------------------------------------------------------------ double


class Literal(nn.Module):
    """A program with Python's numbers, and with parameters that are made in single precision."""

    def __init__(self, own_guide: bool = True) -> None:
        super().__init__()
        self.decoder = nn.Linear(2, 5)
        self.encoder = nn.Linear(5, 4)
        if not own_guide:
            self.guide = None  # type: ignore[assignment]
            del self.encoder

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        noise = pyro.param("noise", torch.tensor(0.5), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            b = pyro.sample("b", dist.LogNormal(torch.tensor(0.1), 0.4))
            loc = self.decoder(torch.stack([a, b], -1)) + torch.linspace(0, 1, 5)
            pyro.sample("x", dist.Normal(loc, noise).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            out = self.encoder(x)
            pyro.sample("a", dist.Normal(out[..., 0], out[..., 1].exp()))
            pyro.sample("b", dist.LogNormal(out[..., 2], out[..., 3].exp()))


WAYS: dict[str, tuple[bool, dict[str, Any]]] = {
    "own guide": (True, {}),
    "derived guide": (False, {"family": "full"}),
    "per-sample": (False, {"guide": "per-sample", "warm_start": True}),
    "semi-amortized": (True, {"guide": "semi-amortized"}),
    "refined": (True, {"guide": "semi-amortized", "encoder_objective": "refined"}),
}
X = normal(30, 5).float().numpy()
FEW: dict[str, Any] = {"max_epochs": 2, "batch_size": 8, "local_steps": 3, "inference_steps": 5, "num_samples": 20}


@pytest.mark.parametrize(
    ("way", "compile"),
    [
        *((way, "off") for way in WAYS),
        ("own guide", "on"),
        pytest.param("semi-amortized", "on", marks=pytest.mark.slow),
    ],
)
def test_every_number_of_a_double_fit_is_double(way: str, compile: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number that a step computes is double, except the count of steps."""
    monkeypatch.setattr("ppl_vae.compile.compiler.compiled", traced)
    shorten_pilot(monkeypatch)  # the precision does not depend on it
    own_guide, options = WAYS[way]
    vi = VariationalInference(Literal(own_guide), precision="64-true", compile=compile, **(FEW | options))
    vi.prepare({"x": X[:24]}, {"x": X[22:]})  # batches of one size have one graph
    with Operations() as done:
        assert len(list(vi.epochs())) == 2
    assert dtypes(vi.program_.parameters()) == {torch.float64}
    assert len(done.seen) > 1000
    assert done.singles() == set()
    assert all(table.after(2).dtype == np.float64 for table in vi.inference_.tables.values())

    with Operations() as done:
        latents = vi.posterior(X[:8], num_samples=3).latents
        estimators = ["iwae", "prior"] + ["ais"] * ((way, compile) == ("own guide", "off"))
        evidence = vi.evaluate(X[:8], estimators=estimators, num_temperatures=3, num_chains=4).evidence
        means, samples = vi.transform(X[:8]), vi.sample(4)
    assert {array.dtype for array in (*latents.values(), means, samples)} == {np.dtype("float64")}
    assert all(dtypes(tuple(each)) == {torch.float64} for each in evidence.values())
    assert done.singles() == {"aten.lift_fresh"}  # of the arrays that it was given
    assert torch.get_default_dtype() == torch.float32


def test_a_double_fit_equals_the_fit_of_a_double_module() -> None:
    """Every number is equal for a program that follows the precision of its data."""
    x, results = bits(30, 8).numpy(), []
    for precision in ("64-true", "32-true"):
        with seeded(0):
            module = VAE(data_dim=8, latent_dim=2, hidden=(5,))
        module = module.double() if precision == "32-true" else module
        vi = VariationalInference(module, precision=precision, **FEW).fit(x)  # type: ignore[arg-type]
        results.append([vi.training_.best_elbo, vi.score(x), *vi.transform(x).ravel()])
    assert results[0] == results[1]


@pytest.mark.parametrize("training", [None, True, False])
def test_the_default_precision_is_restored_after_errors_too(training: bool | None) -> None:
    program = Program(Literal().double()).bind((torch.from_numpy(X).double(),), precision="64-true")
    seen = []

    def fail() -> None:
        with program.running(training=training):
            seen.append(torch.get_default_dtype())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen == [torch.float64]
    for x, match in ((np.full((20, 5), np.inf), "inf in row 0"), (X[:, :4], "observes data of shape")):
        with pytest.raises(InputError, match=match):
            VariationalInference(Literal(), precision="64-true").fit(x)
    assert torch.get_default_dtype() == torch.float32


def test_derived_programs_share_the_precision() -> None:
    x = torch.from_numpy(X)
    program = Program(Literal()).bind((x,))
    bare = without_guide(program)
    space = LatentSpace(bare)
    lam = torch.zeros(len(x), 4)
    derived = with_lambda(space, lambda lam: dist.Normal(lam[..., :2], lam[..., 2:].exp()).to_event(1), lam)
    program.store.precision = "64-true"
    assert {bare.precision, derived.precision, space.program.precision} == {"64-true"}
    derived.store.precision = "32-true"
    assert program.precision == "32-true"


# ---------------------------------------------------------------------------------------------------------- bfloat16

A, B = normal(3, 4, seed=1).float(), normal(4, 5, seed=2).float()
IMAGE, KERNEL = normal(2, 3, 6, 6, seed=3).float(), normal(3, 3, 2, 2, seed=4).float()
CALLS: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "linear": (functional.linear, (A, B.T.contiguous())),
    "matmul": (torch.matmul, (A, B)),
    "@": (lambda a, b: a @ b, (A, B)),
    "mm": (torch.mm, (A, B)),
    ".mm": (lambda a, b: a.mm(b), (A, B)),
    "bmm": (torch.bmm, (A[None], B[None])),
    "einsum": (lambda a, b: torch.einsum("ij,jk->ik", a, b), (A, B)),
    "conv2d": (functional.conv2d, (IMAGE, KERNEL)),
    "conv_transpose2d": (functional.conv_transpose2d, (IMAGE, KERNEL)),
}


@pytest.mark.parametrize("name", CALLS)
def test_products_have_factors_in_bfloat16_and_results_in_single(name: str) -> None:
    """Products of rounded factors agree to the rounding of the result, forward and backward."""
    function, factors = CALLS[name]
    factors = tuple(factor.clone().requires_grad_() for factor in factors)
    with Operations() as done:
        with BFloat16Products():
            product = function(*factors)
        assert product.dtype == torch.float32
        gradients = torch.autograd.grad(product.square().sum(), factors)
    assert dtypes(gradients) == {torch.float32}
    taken = done.products()
    assert len(taken) >= 2
    assert all(each == {torch.bfloat16} for each in taken)
    rounded = tuple(factor.detach().bfloat16().float().requires_grad_() for factor in factors)
    expected = function(*rounded)
    torch.testing.assert_close(product, expected, rtol=2**-7, atol=2**-6)
    assert not torch.equal(product, function(*factors))
    for own, other in zip(gradients, torch.autograd.grad(expected.square().sum(), rounded), strict=True):
        torch.testing.assert_close(own, other, rtol=2**-5, atol=2**-2)


def test_a_bias_is_not_rounded() -> None:
    bias = torch.full((5,), 1 + 2.0**-12)
    with BFloat16Products():
        out = functional.linear(torch.zeros(3, 4), B.T, bias)
    assert torch.equal(out, bias.expand(3, 5))


def test_other_operations_are_not_rounded() -> None:
    number = torch.tensor([1 + 2.0**-12])
    with BFloat16Products():
        assert torch.equal(number * number, torch.tensor([1 + 2.0**-12]) ** 2)
        assert (A.double() @ B.double()).dtype == torch.float64
        assert torch.equal(A.double() @ B.double(), torch.einsum("ij,jk->ik", A.double(), B.double()))
        assert torch.equal(torch.eye(3, dtype=torch.int64) @ torch.arange(3), torch.arange(3))
        assert dist.Normal(number, 1.0).log_prob(number).dtype == torch.float32


PROGRAMS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "vae": (lambda: VAE(data_dim=8, latent_dim=2, hidden=(5,)), bits(30, 8).float()),
    "images": (Images, normal(30, 1, 4, 4).float()),
}


@pytest.fixture(autouse=True)
def _bfloat16_repays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let products in bfloat16 be fast, as they are on some processors only."""
    monkeypatch.setattr("ppl_vae.estimator.precision.product_times", lambda: ProductTimes(fp32=2e-3, bf16=1e-3))


def prepare(name: str, **options: Any) -> VariationalInference:
    make, x = PROGRAMS[name]
    with seeded(0):
        vi = VariationalInference(make(), precision="bf16-mixed", **(FEW | options))
    vi.prepare({"x": x[:24].numpy()}, {"x": x[24:].numpy()})
    return vi


@pytest.mark.parametrize("name", PROGRAMS)
def test_only_products_are_in_bfloat16_in_training(name: str) -> None:
    """Sums of log densities, parameters and their gradients are in single precision."""
    vi = prepare(name)
    with Operations() as done, vi.program_.running(seed=0, training=True):
        list(vi.inference_.steps(vi._prepared.train_batches.shuffled(0), vi.training_.optimizer, 1))
    assert len(done.products()) >= 3 * 4  # of three batches, two layers each way, or more
    assert all(taken == {torch.bfloat16} for taken in done.products())
    assert dtypes(vi.program_.parameters()) == {torch.float32}
    allowed = {*PRODUCTS, "_to_copy", "t", "transpose", "view", "expand", "detach", "permute", "clone", "as_strided"}
    allowed |= {"_unsafe_view", "unsqueeze", "squeeze", "reshape", "alias", "empty_like", "copy_"}
    rounded = {f.rpartition(".")[2] for f, _, outputs in done.seen if any(g.dtype == torch.bfloat16 for g in outputs)}
    assert rounded <= allowed, rounded - allowed


@pytest.mark.parametrize("guide", ["amortized", "per-sample", "semi-amortized"])
def test_evaluation_is_in_single_precision(guide: Any) -> None:
    """It is so during and after training, and in the steps in lambda, which are a part of evaluation."""
    vi = prepare("vae", guide=guide)
    x = PROGRAMS["vae"][1].numpy()
    with Operations() as done, vi.program_.running(training=True):
        vi._prepared.validate()
    assert done.products()
    assert all(taken == {torch.float32} for taken in done.products())
    list(vi.epochs())
    results = [vi._prepared.validate(), vi.score(x), *vi.transform(x).ravel(), *vi.reconstruct(x).ravel()]
    vi.program_.store.precision = "32-true"
    assert results == [vi._prepared.validate(), vi.score(x), *vi.transform(x).ravel(), *vi.reconstruct(x).ravel()]


def test_training_in_bfloat16_is_close_to_training_in_single_precision() -> None:
    """The draws are the same; the relative rounding of a factor is 2^-9."""
    elbos = {}
    for precision in ("32-true", "bf16-mixed"):
        vi = prepare("vae").set_params(precision=precision)
        vi.prepare({"x": PROGRAMS["vae"][1].numpy()})
        elbos[precision] = [epoch.elbo_train for epoch in vi.epochs()]
    assert elbos["bf16-mixed"] != elbos["32-true"]
    assert elbos["bf16-mixed"] == pytest.approx(elbos["32-true"], rel=0.01)


def run_compiled(compiler: Compiler) -> list[Tensor]:
    x = bits(30, 8).float()
    with seeded(0):
        program = Program(VAE(data_dim=8, latent_dim=2, hidden=(5,))).bind((x,), precision="bf16-mixed")
    adam = torch.optim.Adam(program.parameters().values(), lr=1e-2)
    with program.running(seed=1, training=True):
        values = [step.elbo for step in amortized_steps(program, [(x,)] * 9, adam, compiler=compiler)]
    return [*values, *program.state().values()]


def assert_close_to_python(results: list[Tensor]) -> None:
    assert dtypes(results) == {torch.float32}
    for own, expected in zip(results, run_compiled(Compiler("off")), strict=True):
        torch.testing.assert_close(own, expected, rtol=0.02, atol=0.02)


def test_products_are_in_bfloat16_in_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """All products of the graph are in bfloat16, and no other operation is."""
    products = []

    def noted(function: Any, inputs: Any, module: Any) -> Any:
        nodes = trace(function, inputs, module).module.graph.nodes
        for node in nodes:
            if isinstance(node.target, torch._ops.OpOverload) and node.target._opname in PRODUCTS:
                products.append({arg.meta["val"].dtype for arg in node.args if isinstance(arg, torch.fx.Node)})
        return traced(function, inputs, module)

    monkeypatch.setattr("ppl_vae.compile.compiler.compiled", noted)
    results = run_compiled(Compiler("on", tolerance=0.1, say=pytest.fail))
    assert len(products) >= 8
    assert all(taken == {torch.bfloat16} for taken in products)
    assert_close_to_python(results)


@pytest.mark.slow
def test_compiled_products_are_close_to_python() -> None:
    assert_close_to_python(run_compiled(Compiler("on", tolerance=0.1, say=pytest.fail)))


@pytest.mark.parametrize(
    ("modes", "rounded"),
    [
        ([("bf16-mixed", True)], True),
        ([("bf16-mixed", False)], False),
        ([("bf16-mixed", None)], False),
        ([("32-true", True)], False),
        ([("bf16-mixed", True), ("bf16-mixed", None)], True),
        ([("bf16-mixed", True), ("bf16-mixed", False)], False),
        ([("bf16-mixed", True), ("bf16-mixed", False), ("bf16-mixed", None)], False),
        ([("bf16-mixed", True), ("bf16-mixed", False), ("bf16-mixed", True)], True),
        ([("bf16-mixed", False), ("bf16-mixed", True)], True),
    ],
)
def test_the_innermost_mode_counts(modes: list[tuple[Precision, bool | None]], rounded: bool) -> None:
    exact = A @ B
    with ExitStack() as stack:
        for precision, training in modes:
            stack.enter_context(at_precision(precision, training=training))
        assert torch.equal(A @ B, exact) != rounded
    assert torch.equal(A @ B, exact)


# ---------------------------------------------------------------------------------------------- products of singles


def test_the_setting_of_products_is_restored() -> None:
    before, cpu = torch.get_float32_matmul_precision(), torch.device("cpu")
    for asked, setting in {"auto": before, "highest": "highest", "high": "high", "medium": "medium"}.items():
        with fp32_products(asked, cpu):  # type: ignore[arg-type]
            assert torch.get_float32_matmul_precision() == setting
        assert torch.get_float32_matmul_precision() == before
    with pytest.raises(ZeroDivisionError), fp32_products("medium", cpu):
        raise ZeroDivisionError
    assert torch.get_float32_matmul_precision() == before
    with fp32_products("auto", torch.device("cuda")):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


def test_the_setting_of_products_holds_in_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[bool, set[str]] = {True: set(), False: set()}

    class Noting(VAE):
        def model(self, x: Tensor) -> None:
            settings[self.training].add(torch.get_float32_matmul_precision())
            super().model(x)

    x, before = bits(30, 8).float().numpy(), torch.get_float32_matmul_precision()
    vi = VariationalInference(Noting(data_dim=8, latent_dim=2, hidden=(5,)), matmul_precision="medium", **FEW)
    vi.prepare({"x": x}, {"x": x})
    settings[True].clear()
    list(vi.epochs())
    vi.score(x)
    assert settings == {True: {"medium"}, False: {before}}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"precision": "16-mixed"}, "precision='16-mixed' is unknown; did you mean 'bf16-mixed'"),
        ({"matmul_precision": "low"}, "matmul_precision='low' is unknown"),
        ({"compile": "yes"}, "compile='yes' is unknown"),
        ({"clip_norm": 0.0}, "clip_norm is 0.0: expected a positive number"),
        ({"clip_norm": float("inf")}, "clip_norm is inf: expected a positive number"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        VariationalInference(Literal(), **options).fit(X)


# ------------------------------------------------------------------------------------------------------ a slow bfloat16


def test_bfloat16_is_declined_where_it_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ppl_vae.estimator.precision.product_times", lambda: ProductTimes(fp32=1e-3, bf16=14e-3))
    with pytest.warns(InputWarning, match="declined, and the fit takes 32-true: .* 14 ms .* 1 ms in fp32"):
        vi = prepare("vae")
    assert vi.program_.store.precision == "32-true"
    with Operations() as done, vi.program_.running(seed=0, training=True):
        list(vi.inference_.steps(vi._prepared.train_batches.shuffled(0), vi.training_.optimizer, 1))
    assert all(taken == {torch.float32} for taken in done.products())


def test_times_that_decline_bfloat16_by_little_are_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that an earlier version kept: another process may have been at work."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured = iter([ProductTimes(1.0, 1.3), ProductTimes(1.0, 0.7)])
    monkeypatch.setattr("ppl_vae.program.bfloat16.measure_products", lambda: next(measured))
    monkeypatch.setattr("ppl_vae.program.bfloat16._key", lambda: "here")
    (tmp_path / "ppl_vae").mkdir()
    (tmp_path / "ppl_vae" / "products.json").write_text('{"here": [1.0, 1.2]}')
    assert product_times() == ProductTimes(1.0, 1.3)
    assert product_times() == product_times() == ProductTimes(1.0, 0.7)


def test_the_times_of_products_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured = iter([ProductTimes(1.0, 2.0), ProductTimes(4.0, 3.0)])
    monkeypatch.setattr("ppl_vae.program.bfloat16.measure_products", lambda: next(measured))
    assert product_times() == product_times() == ProductTimes(1.0, 2.0)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert product_times() == ProductTimes(4.0, 3.0)
    monkeypatch.delenv("ATEN_CPU_CAPABILITY")
    assert product_times() == ProductTimes(1.0, 2.0)
    (tmp_path / "ppl_vae" / "products.json").write_text("{")
    measured = iter([ProductTimes(6.0, 5.0)])
    assert product_times() == ProductTimes(6.0, 5.0)
    assert min(measure_products()) > 0
