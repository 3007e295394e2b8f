"""Programs that people have whose latents all data share, or without a plate: fitted, or refused for a true reason."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import biject_to

from ppl_vae import VariationalInference
from ppl_vae.errors import InputError
from ppl_vae.program import seeded
from tests.helpers import foreign_shared as foreign
from tests.helpers import plain_pyro
from tests.helpers.scenarios import bits, normal

X = normal(6, 2)
Y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]).double()
SIGMA = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]).double()
COUNTS = torch.from_numpy(np.random.default_rng(0).poisson(2.0, size=(6, 3)).astype(float))
WORDS = np.random.default_rng(1).integers(0, 4, size=(5, 3))

SHARED: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "hmm": (
        lambda: partial(foreign.hmm, args=SimpleNamespace(hidden_dim=2)),
        {"sequences": bits(5, 4, 3), "lengths": torch.tensor([4, 2, 3, 1, 4])},
    ),
    "lda, documents in rows": (lambda: foreign.lda_by_rows, {"docs": torch.from_numpy(WORDS)}),
    "sparse_gamma_def, model": (lambda: foreign.SparseGammaDEF().model, {"x": COUNTS}),
    "eight schools in a plate": (lambda: foreign.schools_in_a_plate, {"y": Y, "sigma": SIGMA}),
    "bayesian regression": (foreign.BayesianRegression, {"x": X, "y": X[:, 0]}),
}


@pytest.mark.parametrize("name", SHARED)
def test_evidence_given_the_shared_latents_is_that_of_plain_pyro(name: str) -> None:
    """With a posterior that is nearly a point, evidence is the density of a datum given that point."""
    make, arrays = SHARED[name]
    with seeded(0):
        model = make()
    arrays = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in arrays.items()}
    given = {key: tensor.numpy() for key, tensor in arrays.items()}
    vi = VariationalInference(model, max_epochs=1, compile="off")
    vi.prepare(given)
    for _ in vi.epochs():
        pass
    posterior: Any = vi.program_.global_posterior
    with torch.no_grad():
        for log_scale in posterior.log_scale.values():
            log_scale.fill_(-40.0)
    found = vi.evidence(given, num_samples=1).log_evidence
    latents = vi.posterior(given, num_samples=1).latents if vi.has_latents else {}
    datum = {key: tensor[:1] for key, tensor in arrays.items()}
    sites = plain_pyro.sample_sites(poutine.trace(model).get_trace(**datum))
    points: dict[str, Tensor] = {
        site: biject_to(sites[site]["fn"].support)(loc.detach()).reshape(sites[site]["value"].shape)
        for site, loc in zip(posterior.names, posterior.loc.values(), strict=True)
    }
    assert all(site not in latents for site in points)
    at_points = poutine.block(poutine.condition(model, data=points), hide=list(points))
    guide = vi.program_.guide and (lambda **arrays: vi.program_.guide(*arrays.values()))
    with vi.program_.running(training=False):
        expected = plain_pyro.estimate(at_points, guide, arrays, latents).evidence
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4, check_dtype=False)


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "hmm": (
        foreign.hmm,
        {"sequences": bits(5, 4, 3), "lengths": torch.full((5,), 4)},
        r"needs an array 'args'.* bind what is no array with functools.partial",
    ),
    "lda": (
        foreign.lda,
        {"data": np.random.default_rng(0).integers(0, 4, size=(9, 6))},
        r"no plate covers the batch of .* in lda: the observed site 'doc_words' lies in .* put latents and observation",
    ),
    "sparse_gamma_def": (
        foreign.SparseGammaDEF(),
        {"x": torch.cat([COUNTS, COUNTS])},
        r"'z_top' has values for 6 data .* the guide has a parameter for each datum, leave it out, or fit with --guide",
    ),
    "eight schools": (
        foreign.conditioned_eight_schools,
        {"y": Y, "sigma": SIGMA},
        r"no plate covers the batch of 8 in .*: the observed site 'obs' lies in no plate; put latents and observation",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_fitted_as_it_stands_is_refused_with_the_remedy(name: str) -> None:
    """The remedies are followed above: arguments bound, documents in rows, no guide, a plate."""
    program, arrays, message = REFUSED[name]
    vi = VariationalInference(program, max_epochs=1, compile="off")
    with pytest.raises(InputError, match=message) as caught:
        vi.prepare({key: np.asarray(array) for key, array in arrays.items()})
    assert "\n" not in str(caught.value)
