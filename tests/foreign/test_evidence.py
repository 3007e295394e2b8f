"""Evidence of programs that people have, of the gallery, and of unusual shapes: that of plain Pyro, datum by datum."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import numpy as np
import pyro
import pytest
import torch

from ppl_vae import VariationalInference
from ppl_vae.errors import InputWarning
from ppl_vae.program import seeded
from tests.helpers import foreign, plain_pyro
from tests.helpers.gallery import GALLERY
from tests.helpers.scenarios import PyroExampleVAE, bits
from tests.helpers.shapes import SHAPES, Made

DATA = DRAWS = 4
X = bits(DATA, 5)
HALVES = bits(DATA, 4)
LABELS = torch.eye(3).double()[torch.arange(DATA) % 3]
COUNTS = torch.from_numpy(np.random.default_rng(0).poisson(2.0, size=(DATA, 6)).astype(float))
LENGTHS = torch.tensor([4, 2, 3, 1])
SEEN = (torch.arange(4) < LENGTHS[:, None]).double()
SEQUENCES = bits(DATA, 4, 3) * SEEN[..., None]

FOREIGN: dict[str, tuple[Callable[[], torch.nn.Module], dict[str, torch.Tensor]]] = {
    "vae": (partial(PyroExampleVAE, z_dim=2, hidden_dim=4, pixels=12), {"x": bits(DATA, 1, 3, 4)}),
    "ss_vae_M2, no labels": (foreign.SSVAE, {"xs": X}),
    "ss_vae_M2, labels": (foreign.SSVAE, {"xs": X, "ys": LABELS}),
    "cvae": (foreign.CVAE, {"xs": torch.where(torch.arange(4) < 2, HALVES, -1.0), "ys": HALVES}),
    "dmm": (
        foreign.DMM,
        {
            "mini_batch": SEQUENCES,
            "mini_batch_reversed": SEQUENCES.flip(1),
            "mini_batch_mask": SEEN,
            "mini_batch_seq_lengths": LENGTHS,
        },
    ),
    "scanvi, no labels": (foreign.SCANVI, {"x": COUNTS[:, :4]}),
    "scanvi, labels": (foreign.SCANVI, {"x": COUNTS[:, :4], "y": LABELS}),
    "flow prior": (foreign.FlowPriorVAE, {"x": HALVES}),
    "prodlda": (foreign.ProdLDA, {"docs": COUNTS}),
}


WARNED = {
    "foreign: ss_vae_M2, labels": "no gradient|not trained",
    "foreign: cvae": "no gradient|not trained",
    "foreign: scanvi, labels": "the factor 'classification_loss' in the guide of SCANVI counts as a part",
}
"""Programs of which some parts are not trained with these arguments, or whose numbers contain more than densities."""


def make_foreign(name: str) -> Made:
    make, arrays = FOREIGN[name]
    program = make()
    return Made(program, (program,), arrays)


def make_gallery(name: str) -> Made:
    make, batch = GALLERY[name]
    program = make()
    names = VariationalInference(program).argument_names
    few = (tensor[:DATA] for tensor in batch)
    return Made(program, (program,), dict(zip(names, few, strict=False)))


CASES: dict[str, Callable[[], Made]] = {
    **{f"foreign: {name}": lambda name=name: make_foreign(name) for name in FOREIGN},
    **{f"gallery: {name}": lambda name=name: make_gallery(name) for name in GALLERY},
    **{f"shape: {name}": make for name, make in SHAPES.items()},
}


@pytest.mark.parametrize("name", CASES)
def test_evidence_is_that_of_plain_pyro(name: str) -> None:
    """An epoch of training changes the parameters; then evidence and ELBO of the same draws agree to rounding.

    An evaluation and draws from the posterior begin with the same seed, so that they have the same draws.
    """
    with seeded(0):
        program, modules, arrays = CASES[name]()
    given = {key: tensor.numpy() for key, tensor in arrays.items()}
    vi = VariationalInference(program, max_epochs=1, compile="off", precision="64-true")
    with pytest.warns(InputWarning, match=WARNED[name]) if name in WARNED else nullcontext():
        vi.prepare(given)
    for _ in vi.epochs():
        pass
    evaluation = vi.evaluate(given, num_samples=DRAWS)
    found = evaluation.evidence["iwae" if vi.has_latents else "exact"]
    latents = vi.posterior(given, num_samples=DRAWS).latents if vi.has_latents else {}
    for module in modules:
        assert module.training
        module.eval()
    model, guide = program if isinstance(program, tuple) else (program.model, getattr(program, "guide", None))
    with vi.program_.store.scope():
        expected = plain_pyro.estimate(model, guide, {key: arrays[key] for key in vi.arguments_}, latents)
    assert set(vi.arguments_) == arrays.keys()
    torch.testing.assert_close(found.log_evidence, expected.evidence, rtol=1e-9, atol=1e-9)
    if vi.has_latents:
        torch.testing.assert_close(found.columns["elbo"], expected.elbo, rtol=1e-9, atol=1e-9)
    assert not list(pyro.get_param_store().keys())


@pytest.mark.parametrize("name", ["foreign: dmm", "shape: constrained", "shape: switches", "shape: absolute"])
@pytest.mark.parametrize("method", ["per-sample", "semi-amortized"])
def test_every_datum_can_have_its_own_lambda(name: str, method: str) -> None:
    """Sequences with masks, constrained latents beside a class that is summed out, and networks that must repeat."""
    with seeded(0):
        program, _, arrays = CASES[name]()
    given = {key: tensor.numpy() for key, tensor in arrays.items()}
    options = {"max_epochs": 1, "local_steps": 2, "inference_steps": 50, "compile": "off", "precision": "64-true"}
    vi = VariationalInference(program, guide=method, **options)
    vi.prepare(given)
    for _ in vi.epochs():
        pass
    found, prior = (vi.evidence(given, estimator=kind, num_samples=2000) for kind in ("iwae", "prior"))
    error = torch.hypot(found.mcse, prior.mcse)
    believed = ~(found.doubtful | prior.doubtful)
    assert believed.any()
    assert ((found.log_evidence - prior.log_evidence).abs() < 5 * error)[believed].all()
