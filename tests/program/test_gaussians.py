"""Which posteriors and priors are Gaussians, and their moments, compared with the sites of plain Pyro."""

from __future__ import annotations

import pyro.poutine as poutine
import pytest
import torch

from ppl_vae import VariationalInference
from ppl_vae.program import Program, gaussian_posteriors, gaussian_priors, seeded
from tests.helpers import scenarios
from tests.helpers.gallery import GALLERY

CASES = {
    "vae": (["z"], ["z"]),
    "full_covariance_vae": (["z"], ["z"]),
    "cvae": (["z"], ["z"]),
    "flow_vae": ([], ["z"]),  # its posterior is a flow's
    "vamp_vae": (["z"], []),  # its prior is a mixture
}


@pytest.mark.parametrize("name", CASES)
def test_the_moments_are_those_of_the_sites(name: str) -> None:
    with seeded(0):
        program = GALLERY[name].make().double()
    batch = tuple(part.double() if part.is_floating_point() else part for part in GALLERY[name].batch)
    bound = Program(program).bind(batch)
    with bound.running(training=False):
        posteriors, priors = gaussian_posteriors(bound, batch), gaussian_priors(bound, batch)
        guide = poutine.trace(program.guide).get_trace(*batch)
        model = poutine.trace(poutine.replay(program.model, guide)).get_trace(*batch)
    assert [sorted(part.mean) for part in (posteriors, priors)] == [list(names) for names in CASES[name]]
    for moments, trace in ((posteriors, guide), (priors, model)):
        for site, mean in moments.mean.items():
            fn = trace.nodes[site]["fn"]
            torch.testing.assert_close(mean, fn.mean.expand(mean.shape))
            torch.testing.assert_close(moments.sd[site], fn.variance.sqrt().expand(mean.shape))


def test_a_latent_that_depends_on_another_is_a_mixture() -> None:
    x = scenarios.normal(9, 4).float()
    with seeded(0):
        bound = Program(scenarios.TwoLatents()).bind((x,))
    with bound.running(training=False):
        assert list(gaussian_posteriors(bound, (x,)).mean) == ["a"]
        assert list(gaussian_priors(bound, (x,)).mean) == ["a"]
    with seeded(0):
        program = GALLERY["hierarchical_vae"].make().double()
    batch = GALLERY["hierarchical_vae"].batch
    deep = Program(program).bind(batch)
    with deep.running(training=False):
        posteriors, priors = gaussian_posteriors(deep, batch), gaussian_priors(deep, batch)
    assert len(posteriors.mean) < 2
    assert len(priors.mean) == 1


def test_the_gaussians_of_a_fit_with_lambda() -> None:
    x = scenarios.normal(12, 6).float().numpy()
    with seeded(0):
        vi = VariationalInference(
            GALLERY["factor_analysis"].make(), guide="per-sample", max_epochs=1, inference_steps=3, compile="off"
        ).fit(x)
    parts = vi.fitted.each_batch((x,), gaussian_posteriors)
    draws = vi.posterior(x, num_samples=4000).latents["z"]
    for name, mean in ((n, m) for part in parts for n, m in part.mean.items()):
        assert name == "z"
        spread = draws.std(0)
        assert (abs(draws.mean(0) - mean.numpy()) < 5 * spread / 4000**0.5).all()
