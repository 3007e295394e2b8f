"""Laws that hold for every model; a new model adds a line to ``GALLERY``."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from torch import nn

from ppl_vae import VariationalInference
from ppl_vae.evidence import Annealing, Chains, ais, iwae, weigh
from ppl_vae.program import Batch, LatentSpace, Program, annealing_path, check, seeded
from ppl_vae.program.handlers import Generate
from ppl_vae.runs import known_models, program_class
from tests.helpers.gallery import GALLERY, with_slow
from tests.helpers.laws import How, assert_equals_pyro, empty_guide

DETERMINISTIC = "autoencoder"
"""This model has no latents and cannot generate, because its observation depends on the data."""


@pytest.fixture(params=GALLERY)
def case(request: pytest.FixtureRequest) -> Iterator[tuple[nn.Module, Batch]]:
    make, batch = GALLERY[request.param]
    pyro.get_param_store()["somebody's"] = torch.ones(3)
    with seeded(0):
        module = make().double()
    yield module, batch
    left = {name: value.detach() for name, value in pyro.get_param_store().items()}
    pyro.clear_param_store()
    assert list(left) == ["somebody's"]
    assert torch.equal(left["somebody's"], torch.ones(3))


def test_every_model_is_in_the_gallery() -> None:
    assert sorted({name.partition(",")[0] for name in GALLERY}) == known_models()


@pytest.mark.parametrize("name", known_models())
def test_is_short_and_imports_only_networks(name: str) -> None:
    """A file contains one program with the name of the file, its formula and its source."""
    cls = program_class(name)
    assert cls.__module__ == f"ppl_vae.models.{name}"
    assert ".. math::" in (cls.__doc__ or "")
    assert "Source:" in (cls.__doc__ or "")
    source = Path(inspect.getfile(cls)).read_text()
    tree = ast.parse(source)
    assert [node.name for node in tree.body if isinstance(node, ast.ClassDef)] == [cls.__name__]
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    known = ("pyro", "torch", "ppl_vae.networks", "__future__", "collections", "itertools", "math", "typing")
    assert all(any(module == k or module.startswith(f"{k}.") for k in known) for module in imported if module)
    documented = {line for node in ast.walk(tree) for line in _docstring_lines(node)}
    code = [n for n, line in enumerate(source.splitlines(), 1) if line.strip() and n not in documented]
    assert len(code) <= 70


def _docstring_lines(node: ast.AST) -> range:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
        first = node.body[0]
        return range(first.lineno, (first.end_lineno or first.lineno) + 1)
    return range(0)


LAWS = [(name, dtype, "eager") for name in GALLERY for dtype in (torch.float64, torch.float32)]
TRACED = ("conv_vae", "hmm", "ppca", "semi_supervised_vae")
"""Models whose steps are traced by default; ``test_graph`` traces programs of the kinds that these do not have."""
LAWS += [
    pytest.param(name, torch.float64, "traced", marks=() if name in TRACED else pytest.mark.slow) for name in GALLERY
]
LAWS += [pytest.param(name, dtype, "compiled", marks=pytest.mark.slow) for name, dtype, _ in LAWS[: 2 * len(GALLERY)]]


@pytest.mark.parametrize(("name", "dtype", "how"), LAWS)
def test_value_and_gradients_equal_pyro(name: str, dtype: torch.dtype, how: How) -> None:
    """The reference is ``Trace_ELBO``, or ``TraceEnum_ELBO`` if a class is summed out.

    Compilation is slow; ``test_compiled_methods`` and ``test_graph`` always compile a step and a graph.
    """
    make, batch = GALLERY[name]
    assert_equals_pyro(make, batch, dtype, (how,))


LIKE_OTHERS = ("conv_vae", "count_vae, inflated", "cvae", "hierarchical_vae, ladder")
"""Further models that train as others do."""


@pytest.mark.parametrize("case", with_slow(GALLERY, LIKE_OTHERS), indirect=True)
def test_trains_under_plain_pyro_and_its_evidence_is_estimated(case: tuple[nn.Module, Batch]) -> None:
    """The ELBO rises; then importance sampling agrees with the exact evidence or with annealing from the prior."""
    module, batch = case
    program = Program(module).bind(batch)
    structure, guide = program.structure, getattr(module, "guide", None) or empty_guide
    kind, model = (TraceEnum_ELBO, config_enumerate(module.model)) if structure.summed else (Trace_ELBO, module.model)
    with seeded(0), pyro.get_param_store().scope():
        svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), kind(max_plate_nesting=structure.plate_nesting))
        losses = [svi.step(*batch) for _ in range(60)]
    assert np.mean(losses[-20:]) < np.mean(losses[:20])
    module.eval()
    few = tuple(t[:6] for t in batch)
    if set(structure.latents) <= set(structure.discrete):
        assert program.log_weights(few, 2).std(0).max() < 1e-12  # the evidence itself
        return
    with torch.no_grad(), seeded(1):
        found = iwae(weigh(lambda k: program.log_weights(few, k), 5000, 1000))
    if program.has_log_evidence:
        expected, error = program.log_evidence(few), found.mcse
    else:
        path = annealing_path(program, few)
        with seeded(2):
            annealed = ais(
                Chains(path.draw, path.log_densities, Annealing(num_chains=32, num_temperatures=160, num_leapfrog=1))
            )
        expected, error = annealed.log_evidence, (found.mcse.square() + annealed.mcse.square()).sqrt()
    believed = ~found.doubtful
    assert believed.sum() >= 4
    assert ((found.log_evidence - expected).abs() < 5 * error + 1e-6)[believed].all()
    assert error[believed].max() < 0.1


def test_passes_the_check_in_both_precisions(case: tuple[nn.Module, Batch]) -> None:
    """Every parameter receives a gradient, guide and model agree, the data have a density."""
    module, batch = case
    check(Program(module), batch)
    check(Program(module.float()), tuple(t.float() if t.is_floating_point() else t for t in batch))


@torch.no_grad()
def test_densities_of_a_datum_do_not_depend_on_the_rest_of_the_batch(case: tuple[nn.Module, Batch]) -> None:
    """At the same latents, densities agree to the last digits; batches of any size have log weights."""
    module, batch = case
    program = Program(module.eval()).bind(tuple(t[:1] for t in batch))
    assert program.log_weights(tuple(t[:1] for t in batch), 3).shape == (3, 1)
    assert program.log_weights(tuple(t[:8] for t in batch), 3).shape == (3, 8)
    structure, alone = program.structure, tuple(t[4:5] for t in batch)
    if set(structure.latents) <= set(structure.discrete):
        found = program.log_evidence(batch)[4:5]
        torch.testing.assert_close(found, program.log_evidence(alone), rtol=1e-10, atol=1e-12)
        return
    space = LatentSpace(program)
    with seeded(0):
        u = space.flat(batch, program.posterior(batch, 3).latents)
    for origin in ("guide", "prior"):
        for together, single in zip(
            space.log_densities(batch, u, origin), space.log_densities(alone, u[:, 4:5], origin), strict=True
        ):
            torch.testing.assert_close(together[:, 4:5], single, rtol=1e-10, atol=1e-12)


@torch.no_grad()
def test_draws_could_be_observed(case: tuple[nn.Module, Batch]) -> None:
    """Draws from the prior have the shape of the data and are in the support."""
    module, batch = case
    program = Program(module).bind(batch)
    if program.name == program_class(DETERMINISTIC).__name__:
        pytest.skip("this model cannot generate")
    with seeded(0):
        draws = program.prior(batch)
    for name, drawn in draws.observed.items():
        assert draws.data[name].shape == drawn.shape[1:]
        assert bool(torch.isfinite(drawn).all())
    with program.running():
        trace = program.run(Generate()(program.model), batch)
    for site in trace.nodes.values():
        if site["type"] == "sample" and site["infer"].get("was_observed"):
            assert bool(site["fn"].support.check(site["value"]).all())
    with seeded(1):
        assert any(not torch.equal(value, draws.observed[k]) for k, value in program.prior(batch).observed.items())


@pytest.mark.parametrize("case", with_slow(GALLERY), indirect=True)
def test_a_saved_fit_gives_the_same_numbers(case: tuple[nn.Module, Batch], tmp_path: Path) -> None:
    module, batch = case
    arrays = {name: t.numpy() for name, t in zip(Program(module).argument_names, batch, strict=False)}
    options = {"batch_size": 8, "learning_rate": 0.02, "num_samples": 20, "validation_fraction": 0}
    vi = VariationalInference(module, max_epochs=3, **options)
    vi.prepare(arrays)
    epochs = list(vi.epochs())  # batches of 8, 8 and 5
    assert all(math.isfinite(epoch.elbo_train) for epoch in epochs)
    vi.save_checkpoint(tmp_path / "checkpoint.safetensors")
    name = next(name for name, (make, data) in GALLERY.items() if data is batch and isinstance(make(), type(module)))
    with seeded(99):
        other = GALLERY[name].make().double()
    loaded = VariationalInference(other, **options).load_parameters(tmp_path / "checkpoint.safetensors")
    assert loaded.evaluate(arrays).score() == vi.evaluate(arrays).score()
