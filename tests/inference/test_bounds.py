"""Objectives other than the plain ELBO: the importance-weighted bound, weighted and closed divergences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.inference import AmortizedOptions, amortized_steps, derive_encoder, elbo, iwae, tempered
from ppl_vae.inference.families import Diagonal, Full
from ppl_vae.inference.per_datum import LocalElbo, LocalSteps
from ppl_vae.program import (
    Batch,
    BoundProgram,
    LatentSpace,
    Program,
    elbo_terms,
    objective_terms,
    path_draws,
    seeded,
)
from tests.helpers import scenarios
from tests.helpers.scenarios import normal


class UpAndDown(nn.Module):
    """p(z2) p(z1 | z2) p(x | z1) with a guide q(z1 | x) q(z2 | z1), whose order is the other."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.second, self.down = nn.Linear(2, 4), nn.Linear(2, 2), nn.Linear(1, 4)

    def model(self, x: Tensor) -> None:
        pyro.module("down", self.down)
        with pyro.plate("data", len(x)):
            z2 = pyro.sample("z2", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
            loc, raw = self.down(z2).chunk(2, -1)
            z1 = pyro.sample("z1", dist.Normal(loc, raw.exp()).to_event(1))
            pyro.sample("x", dist.Normal(z1.tanh(), 0.4).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("up", self.up)
        pyro.module("second", self.second)
        with pyro.plate("data", len(x)):
            loc, raw = self.up(x).chunk(2, -1)
            z1 = pyro.sample("z1", dist.Normal(loc, raw.exp()).to_event(1))
            loc, raw = self.second(z1).chunk(2, -1)
            pyro.sample("z2", dist.Normal(loc, raw.exp()).to_event(1))


LENGTHS = torch.tensor([5, 1, 3])
CASES: dict[str, tuple[Callable[[], nn.Module], Batch]] = {
    "one latent": (scenarios.Conjugate, (normal(3),)),
    "dependent latents": (scenarios.TwoLatents, (normal(3, 4).abs(),)),
    "another order": (UpAndDown, (normal(3, 2),)),
    "inner plate": (scenarios.InnerPlate, (normal(3, 4),)),
    "repeated draws": (scenarios.BatchNormDecoder, (normal(3, 3),)),
    "masks": (scenarios.Sequences, (normal(3, 5), LENGTHS)),
    "summed out": (scenarios.SummedSwitch, (normal(3),)),
}


def make(name: str) -> tuple[BoundProgram, Batch, list[Tensor]]:
    module, batch = CASES[name]
    with seeded(0):
        program = Program(module().double()).bind(batch)
    return program, batch, list(program.parameters().values())


def derived() -> tuple[BoundProgram, Batch, list[Tensor]]:
    """With a guide of all latents together, which are functions of one auxiliary site."""
    batch = (normal(3, 3).abs().round(),)
    with seeded(0):
        program = derive_encoder(Program(scenarios.bare(scenarios.Counts(2)).double()).bind(batch), batch, "full")
        for parameter in program.module.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return program, batch, list(program.parameters().values())


def gradient(value: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    parts = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([part.reshape(-1) for part in parts])


class TestImportanceWeighted:
    @pytest.mark.parametrize("name", ["one latent", "another order", "masks", "derived"])
    def test_in_expectation_it_is_the_gradient_of_the_bound(self, name: str) -> None:
        """That of the bound as it is written has another variance, and the same mean."""
        program, batch, parameters = derived() if name == "derived" else make(name)
        repeats, copies = 40, 100
        batch = tuple(tensor.repeat(copies, *[1] * (tensor.dim() - 1)) for tensor in batch)
        doubly, plain = [], []
        with program.running(seed=1, training=True):
            for _ in range(repeats):
                doubly.append(gradient(iwae(path_draws(program, batch, 3))[1].mean(), parameters))
                plain.append(gradient(program.log_weights(batch, 3).logsumexp(0).mean(), parameters))
        ours, theirs = torch.stack(doubly), torch.stack(plain)
        error = ((ours.var(0) + theirs.var(0)) / repeats).sqrt()
        standardised = (ours.mean(0) - theirs.mean(0)) / error.clamp(min=1e-12)
        assert standardised.abs().max() < 4.5  # t of 78 degrees of freedom, at most 700 numbers: P(more) < 0.02
        assert standardised.square().mean() < 2

    @pytest.mark.parametrize("name", CASES)
    def test_theta_has_the_gradient_of_the_bound_on_the_same_draws(self, name: str) -> None:
        program, batch, _ = make(name)
        module = program.model.__self__  # type: ignore[attr-defined]
        of_guide = [getattr(module, part, nn.Module()) for part in ("encoder", "up", "second")]
        theirs = {id(p) for part in of_guide for p in part.parameters()}
        theta = [p for p in program.parameters().values() if id(p) not in theirs]
        if not theta:
            pytest.skip("the model has no parameters")
        found = []
        for which in ("ours", "written"):
            with program.running(seed=2, training=False):
                if which == "ours":
                    bound, ascended = iwae(path_draws(program, batch, 4))
                else:
                    log_weights = program.weighted_draws(batch, 4).log_weight
                    bound = ascended = log_weights.logsumexp(0) - math.log(4)
                found.append((bound.detach(), gradient(ascended.mean(), theta)))
        torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-12)

    def test_phi_has_the_formula_on_the_same_draws(self) -> None:
        """z = loc + scale eps; d log w / d z by hand, of a model and a guide that are Gaussian."""
        program, (x,), _ = make("one latent")
        with program.running(seed=3):
            draws = path_draws(program, (x,), 5)
            found = gradient(iwae(draws)[1].sum(), list(program.module.encoder.parameters()))
        with program.running(seed=3):
            guide = program.run(program.guide, (x,), 5)  # type: ignore[arg-type]
        z, q = guide.nodes["z"]["value"].detach(), guide.nodes["z"]["fn"]
        slope = -z + (x - z) / 0.5 + (z - q.loc.detach()) / q.scale.detach() ** 2
        log_weight = (dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z, 0.5**0.5).log_prob(x) - q.log_prob(z)).detach()
        weights = log_weight.softmax(0).square()
        noise = (z - q.loc.detach()) / q.scale.detach()
        by_hand = (weights * slope * (q.loc + q.scale * noise)).sum()
        torch.testing.assert_close(found, gradient(by_hand, list(program.module.encoder.parameters())))
        torch.testing.assert_close(draws.log_weight, log_weight)

    def test_its_signal_to_noise_ratio_grows_with_draws(self) -> None:
        """As Rainforth et al. (2018) find that of the bound as it is written does not."""
        program, batch, _ = make("one latent")
        phi = list(program.module.encoder.parameters())
        ratios = []
        for num_draws in (2, 128):
            with program.running(seed=4):
                slopes = torch.stack(
                    [gradient(iwae(path_draws(program, batch, num_draws))[1].mean(), phi) for _ in range(300)]
                )
            ratios.append((slopes.mean(0).abs() / slopes.std(0)).mean())
        assert ratios[1] > 2 * ratios[0]

    def test_refuses_what_has_no_path(self) -> None:
        with seeded(0):
            program = Program(scenarios.Switch().double()).bind((normal(3),))
        with pytest.raises(InputError, match="'c' in the guide of Switch has none: leave it out of the guide"):
            path_draws(program, (normal(3),), 2)
        shared = Program(scenarios.SharedMean()).bind((normal(9).float(),), num_data=9)
        with pytest.raises(InputError, match="latents that all data share"):
            path_draws(shared, (normal(9).float(),), 2)
        for option in ({"kl_weight": 2.0}, {"free_bits": 0.1}, {"analytic_kl": True}, {"gradient": "score-function"}):
            adam = torch.optim.Adam([nn.Parameter(torch.zeros(1))])
            with pytest.raises(InputError, match="bound='iwae' has no divergence and no score function"):
                list(amortized_steps(program, [], adam, AmortizedOptions(bound="iwae", num_particles=2, **option)))  # type: ignore[arg-type]


class TestDivergence:
    @pytest.mark.parametrize("num_draws", [1, 3])
    @pytest.mark.parametrize("name", ["one latent", "dependent latents", "inner plate", "masks"])
    def test_closed_forms_are_pyros(self, name: str, num_draws: int) -> None:
        program, batch, parameters = make(name)
        with program.running(seed=1, training=True):
            terms = objective_terms(program, batch, num_draws)
            value = elbo(tempered(terms)).mean()
            found = gradient(value, parameters)
        for parameter in parameters:
            parameter.grad = None
        nesting = 2 if name == "inner plate" else 1
        pyros = TraceMeanField_ELBO(num_draws, max_plate_nesting=nesting, vectorize_particles=num_draws > 1)
        with seeded(1), pyro.get_param_store().scope(), pyro.validation_enabled(False):
            loss = pyros.loss_and_grads(program.model, program.guide, *batch)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        assert value.item() == pytest.approx(-loss / 3, rel=1e-10)
        torch.testing.assert_close(found, -torch.cat([g.reshape(-1) for g in grads]) / 3, rtol=1e-8, atol=1e-10)

    @pytest.mark.parametrize("name", CASES)
    def test_every_form_has_the_same_mean(self, name: str) -> None:
        """The divergence of the draws and that by site, whatever the order of guide and model is."""
        program, batch, _ = make(name)
        totals = []
        with torch.no_grad(), program.running(training=False):
            for closed in (False, True):
                with seeded(5):
                    terms = objective_terms(program, batch, 40000, closed=closed)
                by_site = [d.values.flatten(2).sum(-1) if d.values.dim() > 2 else d.values for d in terms.divergences]
                totals.append(torch.stack(by_site).sum(0))
        error = ((totals[0].var(0) + totals[1].var(0)) / 40000).sqrt()
        assert ((totals[0].mean(0) - totals[1].mean(0)).abs() < 4 * error + 1e-12).all()
        with seeded(6):
            reported = elbo_terms(program, batch, 40000)
        by_site = {k: v.reshape(3, -1).sum(-1) for k, v in reported.by_site.items()}
        if len(by_site) == len(program.structure.latents):
            assert ((sum(by_site.values()) - reported.divergence).abs() < 6 * error + 1e-12).all()

    def test_a_closed_form_that_would_be_wrong_is_not_taken(self) -> None:
        """p(z1 | z2) at a z2 that the guide draws given z1: its divergence from q(z1 | x) is not their KL."""
        program, batch, _ = make("another order")
        with torch.no_grad(), program.running(seed=5):
            guide, model = (t.nodes for t in program.traces(batch, 40000)[:2])
        wrong = torch.distributions.kl_divergence(guide["z1"]["fn"], model["z1"]["fn"]).mean(0)
        with seeded(6):
            right = elbo_terms(program, batch, 40000).by_site["z1"].sum(-1)
        assert ((wrong - right).abs() > 0.05).all()

    def test_a_weight_is_pyros_scale_of_the_latents(self) -> None:
        class Scaled(scenarios.TwoLatents):
            def model(self, x: Tensor) -> None:
                pyro.module("program", self)
                with pyro.plate("items", len(x)):
                    with pyro.poutine.scale(scale=0.3):
                        a = pyro.sample("a", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
                        s = pyro.sample("s", dist.LogNormal(a.sum(-1), 0.3))
                    mean = torch.cat([a, s[..., None]], -1)
                    pyro.sample("x", dist.Normal(mean, self.noise).to_event(1), obs=x)

            def guide(self, x: Tensor) -> None:
                with pyro.poutine.scale(scale=0.3):
                    super().guide(x)

        found = []
        for module, weight in ((scenarios.TwoLatents, 0.3), (Scaled, None)):
            batch = (normal(3, 4).abs(),)
            with seeded(0):
                program = Program(module().double()).bind(batch)
            with program.running(seed=1):
                if weight is None:
                    draws = program.weighted_draws(batch, 4, tempered=True)
                else:
                    draws = tempered(objective_terms(program, batch, 4, closed=False), weight)
                value = elbo(draws).mean()
                found.append((value.detach(), gradient(value, list(program.parameters().values()))))
        torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-12)

    def test_a_weight_leaves_a_sum_over_classes_whole(self) -> None:
        """log p(x | z) + beta (log sum_c p(c) p(z | c) - log q(z | x)), and not a power of what is summed."""
        program, (x,), _ = make("summed out")
        with program.running(seed=1), torch.no_grad():
            found = tempered(objective_terms(program, (x,), 6), 0.5).log_weight
        with program.running(seed=1), torch.no_grad():
            guide = program.run(program.guide, (x,), 6)  # type: ignore[arg-type]
        z, log_q = guide.nodes["z"]["value"], guide.nodes["z"]["fn"].log_prob(guide.nodes["z"]["value"])
        means = program.model.__self__.means  # type: ignore[attr-defined]
        log_prior = dist.Normal(means, 1.0).log_prob(z[..., None])
        log_prior = (log_prior + torch.tensor([0.6, 0.4]).double().log()).logsumexp(-1)
        torch.testing.assert_close(found, dist.Normal(z, 0.5).log_prob(x) + 0.5 * (log_prior - log_q))

    def test_free_bits_stop_the_gradient_of_what_lies_below_them(self) -> None:
        """The gradient is that of the objective itself, mean log p(x | z) - sum_j max(lambda, KL_j)."""
        program, batch, parameters = make("dependent latents")
        with program.running(seed=1):
            terms = objective_terms(program, batch, 4)
            means = [d.values.mean((0, 1)) for d in terms.divergences]
            level = torch.cat([m.reshape(-1) for m in means]).sort().values[1:3].mean().item()  # two lie below
            objective = terms.log_likelihood.mean() - sum(m.clamp(min=level).sum() for m in means)
            expected = gradient(objective, parameters)
        with program.running(seed=1):
            terms = objective_terms(program, batch, 4)
            found = gradient(elbo(tempered(terms, free_bits=level)).mean(), parameters)
            without = gradient(elbo(tempered(objective_terms(program, batch, 4))).mean(), parameters)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        assert not torch.allclose(found, without)

    def test_free_bits_of_a_latent_whose_dimensions_depend_count_them(self) -> None:
        program, batch, _ = derived()
        with program.running(seed=1):
            (divergence,) = objective_terms(program, batch, 4).divergences
        assert (divergence.values.shape, divergence.size) == ((4, 3), 2)


QUICK: dict[str, list[dict[str, Any]]] = {
    "another order": [{"bound": "iwae", "num_particles": 4}],
    "masks": [{"kl_weight": 0.5}, {"free_bits": 0.2, "kl_weight": 2.0}],
    "summed out": [{"analytic_kl": True}],
}
CASES_OF_STEPS = [
    pytest.param(name, options, marks=() if options in quick else pytest.mark.slow, id=f"{name}-{options}")
    for name, quick in QUICK.items()
    for options in itertools.chain(*QUICK.values())
]
"""Every program with every objective; by default, each objective has one program, and every program has one."""


class TestSteps:
    @pytest.mark.parametrize(("name", "options"), CASES_OF_STEPS)
    def test_reports_the_bound_and_learns(self, name: str, options: dict[str, Any]) -> None:
        """With another objective the ELBO itself is reported, of the same draws."""
        program, batch, parameters = make(name)
        adam = torch.optim.Adam(parameters, lr=0.01)
        with program.running(seed=7, training=True):
            first = next(iter(amortized_steps(program, [batch], adam, AmortizedOptions(**options)))).elbo
        program, batch, parameters = make(name)
        with program.running(seed=7, training=True):
            log_weights = program.weighted_draws(batch, options.get("num_particles", 1)).log_weight
        expected = log_weights.logsumexp(0) - math.log(len(log_weights))
        if options.keys() <= {"bound", "num_particles", "kl_weight"}:  # the others report a closed form
            assert first.item() == pytest.approx(expected.mean().item())
        adam = torch.optim.Adam(parameters, lr=0.02)
        with program.running(seed=8, training=True):
            steps = [step.elbo for step in amortized_steps(program, [batch] * 100, adam, AmortizedOptions(**options))]
        assert torch.stack(steps[-40:]).mean() > torch.stack(steps[:40]).mean()

    @pytest.mark.parametrize("family", [Diagonal, Full])
    def test_a_datums_own_lambda_finds_the_weighted_optimum(self, family: Callable[[int], Any]) -> None:
        """z ~ N(0, 1), x | z ~ N(z, 1/2) to the power 1 / beta: precision 1 + 2 / beta."""
        program, batch, _ = make("one latent")
        space, beta = LatentSpace(program), torch.tensor(3.0).double()
        made = family(1)
        with seeded(9):
            local = LocalElbo(space, made, kl_weight=beta)
            rows = local.ascend(batch, local.at_prior(batch), LocalSteps(600, 0.1, 64))
        q = made.distribution(rows.lam)
        precision = 1 + 2 / beta
        torch.testing.assert_close(q.mean[:, 0], 2 / beta * batch[0] / precision, atol=0.01, rtol=0)
        torch.testing.assert_close(q.variance[:, 0], (1 / precision).expand(3), atol=0.01, rtol=0)

    def test_at_a_lambda_both_objectives_are_those_by_hand(self) -> None:
        program, (x,), _ = make("one latent")
        space, made, lam = LatentSpace(program), Diagonal(1), normal(3, 2)
        with seeded(1):
            reported, ascended = LocalElbo(space, made, kl_weight=0.2).at(lam, (x,), 5)
        with seeded(1):
            u, log_q = made.draw(lam, torch.randn(5, 3, 1).to(lam))
        z = u[..., 0]
        log_prior, log_likelihood = dist.Normal(0.0, 1.0).log_prob(z), dist.Normal(z, 0.5**0.5).log_prob(x)
        assert reported.item() == pytest.approx((log_likelihood + log_prior - log_q).mean().item())
        assert ascended.item() == pytest.approx((log_likelihood + 0.2 * (log_prior - log_q)).mean().item())
