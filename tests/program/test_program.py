"""Test laws that hold for every program as functions of tensors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.models.vae import VAE
from ppl_vae.program import Batch, BoundProgram, Program, check, check_observations, posterior_moments, seeded
from tests.helpers import scenarios
from tests.helpers.scenarios import bits, normal

# A program of another shape adds a line here.
PROGRAMS = {
    "conjugate": (scenarios.Conjugate, (normal(6),), "plate"),
    "vae": (lambda: VAE(data_dim=8, latent_dim=3, hidden=(5,)), (bits(6, 2, 4),), "plate"),
    "factor_analysis": (lambda: FactorAnalysis(data_dim=4, latent_dim=2), (normal(6, 4),), "plate"),
    "pyro_example": (scenarios.PyroExampleVAE, (bits(6, 1, 8, 8),), "plate"),
    "two_latents": (scenarios.TwoLatents, (normal(6, 4).abs(),), "plate"),
    "inner_plate": (scenarios.InnerPlate, (normal(6, 4),), "plate"),
    "sequences": (scenarios.Sequences, (normal(6, 5), torch.tensor([5, 1, 2, 5, 3, 4])), "plate"),
    "softmax": (scenarios.SoftmaxDecoder, (normal(6, 3),), "repeat"),
    "softmax from zero": (scenarios.ZeroSoftmaxDecoder, (normal(6, 3),), "repeat"),
    "batch norm": (scenarios.BatchNormDecoder, (normal(6, 3),), "repeat"),
    "images": (scenarios.Images, (normal(6, 1, 4, 4),), "repeat"),
    "subsampled": (scenarios.Subsampled, (normal(6),), "plate"),
    "switch": (scenarios.Switch, (normal(6),), "plate"),
}


@pytest.fixture(params=PROGRAMS)
def case(request: pytest.FixtureRequest) -> Iterator[tuple[BoundProgram, Batch, str]]:
    make, batch, draws_by = PROGRAMS[request.param]
    with seeded(1):
        program = Program(make().double().eval()).bind(batch)
    yield program, batch, draws_by
    assert len(pyro.get_param_store()) == 0, "the program left parameters in the global store"


def log_density(fn: object, batch: Batch, values: dict[str, Tensor]) -> Tensor:
    """Return the log density of one datum from plain Pyro, without scales."""
    trace = poutine.trace(poutine.condition(fn, data=values)).get_trace(*batch)
    total = torch.zeros((), dtype=torch.double)
    for site in trace.nodes.values():
        if site["type"] == "sample" and type(site["fn"]).__name__ != "_Subsample":
            log_prob = site["fn"].log_prob(site["value"])
            total = total + (log_prob if site["mask"] is None else log_prob * site["mask"]).sum()
    return total


def test_log_weights_equal_plain_pyro_one_datum_at_a_time(case: tuple[BoundProgram, Batch, str]) -> None:
    program, batch, draws_by = case
    with seeded(2):
        weights = program.weighted_draws(batch, 3).log_weight
    with seeded(2):  # the guide is run first, so these are the same draws
        latents = program.posterior(batch, 3).latents
    assert weights.shape == (3, 6)
    assert program.structure.draws_by == draws_by
    for k in range(3):
        for b in range(6):
            datum = tuple(tensor[b : b + 1] for tensor in batch)
            values = {}
            for name, draws in latents.items():
                value = draws[k, b : b + 1]
                # Pyro lays a latent of an outer plate out with a dimension of one for the inner plate.
                values[name] = value[:, None] if name == "level" else value
            with program.running(), torch.no_grad():
                expected = log_density(program.model, datum, values) - log_density(program.guide, datum, values)
            torch.testing.assert_close(weights[k, b], expected, rtol=1e-10, atol=1e-10)


def test_one_draw_needs_no_outer_plate_and_has_the_same_distribution(case: tuple[BoundProgram, Batch, str]) -> None:
    program, batch, _ = case
    with torch.no_grad(), seeded(3):
        many = program.log_weights(batch, 4000)
        tenfold = tuple(tensor.repeat(10, *[1] * (tensor.dim() - 1)) for tensor in batch)
        one = torch.cat([program.log_weights(tenfold).reshape(10, 6) for _ in range(50)])
    assert one.shape == (500, 6)
    error = (many.var(0) / 4000 + one.var(0) / 500).sqrt()
    # 6 data of 13 programs: 4.5 standard errors hold for all with probability 0.9995
    assert ((many.mean(0) - one.mean(0)).abs() < 4.5 * error + 1e-9).all()


def test_draws_have_draws_then_data_in_front(case: tuple[BoundProgram, Batch, str]) -> None:
    program, batch, _ = case
    prior, posterior = program.prior(batch), program.posterior(batch, 5)
    assert {name: v.shape[2:] for name, v in prior.latents.items()} == {
        name: v.shape[2:] for name, v in posterior.latents.items()
    }
    for draws, num_samples in ((prior, 1), (posterior, 5)):
        for values in (draws.latents, draws.observed, draws.means):
            assert values
            assert all(value.shape[:2] == (num_samples, 6) for value in values.values())
        for name, data in draws.data.items():
            assert data.shape == draws.observed[name].shape[1:] == draws.means[name].shape[1:]
    means = posterior_moments(program, batch, 5).mean
    assert {n: m.shape for n, m in means.items()} == {n: v.shape[1:] for n, v in posterior.latents.items()}


def test_data_of_the_posterior_are_the_observations() -> None:
    x = bits(6, 1, 8, 8)
    draws = Program(scenarios.PyroExampleVAE().double()).bind((x,)).posterior((x,), 2)
    assert torch.equal(draws.data["obs"], x.reshape(6, 64))


def test_prior_and_posterior_predictive_follow_the_model() -> None:
    x = normal(1).expand(20000)
    program = Program(scenarios.Conjugate().double()).bind((x,))
    with seeded(4):
        prior, posterior = program.prior((x,)), program.posterior((x,))
    # 4 standard errors of a mean and of a variance over 20000 draws
    assert abs(prior.observed["x"].mean()) < 4 * (1.5 / 20000) ** 0.5
    assert abs(prior.observed["x"].var() - 1.5) < 4 * 1.5 * (2 / 20000) ** 0.5
    loc = 0.6 * x[0] + 0.1
    variance = torch.tensor(-0.6).exp() + 0.5
    assert abs(posterior.observed["x"].mean() - loc) < 4 * (variance / 20000) ** 0.5
    assert torch.equal(posterior.means["x"], posterior.latents["z"])
    assert torch.allclose(posterior_moments(program, (x,)).mean["z"], loc)


def test_scales_count_in_training_only_and_the_scale_of_the_data_plate_never() -> None:
    x = normal(6)
    program = Program(scenarios.Subsampled().double()).bind((x,))
    with seeded(5):
        tempered = program.weighted_draws((x,), 2, tempered=True).log_weight
    with seeded(5):
        z = program.posterior((x,), 2).latents["z"]
    loc, scale = 0.6 * x + 0.1, torch.tensor(-0.3).exp().double()
    kl_term = dist.Normal(0.0, 1.0).log_prob(z) - dist.Normal(loc, scale).log_prob(z)
    torch.testing.assert_close(tempered, dist.Normal(z, 0.5**0.5).log_prob(x) + 0.1 * kl_term)


def test_two_programs_with_the_same_names_share_nothing() -> None:
    x = bits(6, 8)
    first, second = (Program(VAE(data_dim=8, latent_dim=2).double()).bind((x,)) for _ in range(2))
    for program in (first, second):
        before = {k: v.clone() for k, v in program.state().items()}
        sgd = torch.optim.SGD(program.parameters().values(), lr=0.1)
        program.log_weights((x,)).sum().backward()
        sgd.step()
        assert all(not torch.equal(v, before[k]) for k, v in program.state().items())


def test_parameters_of_functions_live_in_the_program() -> None:
    def model(x: Tensor) -> None:
        scale = pyro.param("scale", torch.tensor(2.0, dtype=torch.double), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, scale), obs=x)

    def guide(x: Tensor) -> None:
        loc = pyro.param("loc", torch.zeros((), dtype=torch.double))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, 1.0))

    x = normal(7)
    program = Program(model, guide).bind((x,))
    check(program, (x,))
    state = program.state()
    assert set(state) == {"param.scale", "param.loc"}
    assert state["param.scale"].item() == pytest.approx(torch.tensor(2.0).log().item())
    other = Program(model, guide).bind((x,))
    other.load_state({"param.scale": torch.tensor(0.5), "param.loc": torch.tensor(1.0)})
    assert program.state()["param.loc"] == 0
    with seeded(0):
        far = other.log_weights((x,), 4000).mean()
    # E log w at the loaded values: scale exp(0.5), loc 1
    expected = -0.5 - torch.log(torch.tensor(2 * torch.pi)) / 2 - 0.5 - ((x - 1) ** 2 + 1).mean() / 2 / torch.e
    assert abs(far - expected) < 4 * 1.5 / (4000 * 7) ** 0.5


def test_networks_that_functions_refer_to_follow_the_program() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5), nn.BatchNorm1d(1)).double()

    def model(x: Tensor) -> None:
        pyro.module("network", network)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(network(x), 1.0).to_event(1), obs=x)

    program = Program(model).bind((normal(7, 1),))
    assert "module.network.2.running_mean" in program.state()
    with program.running(training=False):
        assert not network[1].training
    assert network[1].training
    assert program.log_weights((normal(7, 1),)).shape == (1, 7)  # no latents: no guide is needed


def test_scope_restores_after_an_exception() -> None:
    program = Program(VAE(data_dim=8)).bind((bits(4, 8).float(),))
    program.module.eval()
    with pytest.raises(ZeroDivisionError), program.running(training=True):
        raise ZeroDivisionError
    assert not program.module.training
    assert len(pyro.get_param_store()) == 0
    with program.running():
        assert pyro.settings.get("validate_distributions_pyro")


def test_the_trial_of_an_outer_plate_restores_parameters_and_statistics() -> None:
    program = Program(scenarios.BatchNormDecoder().double())
    before = {name: tensor.clone() for name, tensor in program.module.state_dict().items()}
    program.bind((normal(6, 3),))
    assert all(torch.equal(tensor, before[name]) for name, tensor in program.module.state_dict().items())


def test_the_posterior_mean_of_a_guide_without_a_known_mean_is_an_average() -> None:
    """The mean of tanh(Normal) is not known in closed form, and one draw does not estimate it."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Uniform(x.new_tensor(-1.0), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        slope = pyro.param("slope", torch.tensor(0.5, dtype=torch.double))
        with pyro.plate("data", len(x)):
            pyro.sample(
                "z", dist.TransformedDistribution(dist.Normal(slope * x, 1.0), [dist.transforms.TanhTransform()])
            )

    x = normal(6)
    check(Program(model, guide), (x,))
    with seeded(0):
        mean = posterior_moments(Program(model, guide).bind((x,)), (x,), 2000).mean["z"]
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    exact = (np.tanh(0.5 * x.numpy()[:, None] + nodes) * weights).sum(1) / weights.sum()
    assert np.abs(mean.numpy() - exact).max() < 4 * 1 / 2000**0.5


def test_random_initial_values_follow_the_seed() -> None:
    def model(x: Tensor) -> None:
        shift = pyro.param("shift", lambda: torch.randn((), dtype=torch.double))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(shift, 1.0), obs=x)

    values = []
    for seed in (1, 1, 2):
        with seeded(seed):
            program = Program(model).bind((normal(5),))
        values.append(program.parameters()["shift"].item())
    assert values[0] == values[1] != values[2]


def test_binding_leaves_the_random_state_alone() -> None:
    program = Program(VAE(data_dim=8).double())
    state = torch.get_rng_state()
    program.bind((bits(4, 8),))
    assert torch.equal(torch.get_rng_state(), state)


def test_load_state_refuses_another_program_and_changes_nothing() -> None:
    x = bits(4, 8)
    program = Program(VAE(data_dim=8).double()).bind((x,))
    before = {k: v.clone() for k, v in program.state().items()}
    wider = Program(VAE(data_dim=8, hidden=(7,)).double()).bind((x,)).state()
    with pytest.raises(InputError, match=r"'module.encoder.net.0.weight' has shape \(7, 8\), expected \(256, 8\)"):
        program.load_state(wider)
    with pytest.raises(InputError, match=r"lacks 'module\.decoder\.0\.bias'"):
        program.load_state(Program(FactorAnalysis(8).double()).bind((x,)).state())
    assert all(torch.equal(v, before[k]) for k, v in program.state().items())


def test_deterministic_values_are_no_observations() -> None:
    class Recorded(scenarios.Conjugate):
        def model(self, x: Tensor) -> None:
            pyro.deterministic("half", torch.tensor(0.5))
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
                mean = pyro.deterministic("mean", torch.stack([z, z], -1))  # wider than the plate
                pyro.sample("x", dist.Normal(mean[..., 0], 0.5**0.5), obs=x)

    x = normal(6)
    program = Program(Recorded().double()).bind((x,))
    check(program, (x,))
    assert program.structure.observed == ("x",)
    assert set(program.prior((x,)).observed) == {"x"}
    assert program.posterior((x,), 3).observed["x"].shape == (3, 6)


def test_modules_as_model_and_guide() -> None:
    class Forward(nn.Module):
        def __init__(self, owner: nn.Module, name: str) -> None:
            super().__init__()
            self.owner, self.name = owner, name

        def forward(self, x: Tensor) -> None:
            getattr(self.owner, self.name)(x)

    half = scenarios.Conjugate().double()
    x = normal(6)
    definition = Program(Forward(half, "model"), Forward(half, "guide"))
    assert definition.arguments({"x"}) == ("x",)
    program = check(definition, (x,))
    assert program.log_weights((x,), 2).shape == (2, 6)


class TestArguments:
    def test_names_are_those_of_the_arrays(self) -> None:
        program = Program(scenarios.Sequences())
        assert program.arguments({"lengths", "x", "y"}) == ("x", "lengths")
        with pytest.raises(InputError, match=r"needs an array 'lengths'.*did you mean 'lenghts'"):
            program.arguments({"x", "lenghts"})

    def test_a_single_argument_takes_x(self) -> None:
        def model(data: Tensor, temperature: float = 1.0) -> None: ...

        assert Program(model).arguments({"x", "y"}) == ("x",)
        assert Program(model).arguments({"x", "data", "temperature"}) == ("data", "temperature")


class TestDataPlate:
    @staticmethod
    def model(*names: str, loop: bool = False, square: bool = False) -> Program:
        def model(x: Tensor) -> None:
            if loop:
                for i in pyro.plate(names[0], len(x)):
                    pyro.sample(f"x_{i}", dist.Normal(0.0, 1.0), obs=x[i, 0])
                return
            columns = len(x) if square else x.shape[1]
            with pyro.plate(names[0], len(x), dim=-2), pyro.plate(names[1], columns, dim=-1):
                pyro.sample("x", dist.Normal(0.0, 1.0), obs=x[:, :columns])

        return Program(model)

    def test_is_the_one_of_the_batch_size(self) -> None:
        assert self.model("rows", "columns").bind((normal(5, 3),)).structure.data_plate == "rows"
        assert self.model("rows", "columns").bind((normal(4, 4),)).structure.data_plate == "rows"  # and follows it

    def test_called_data_wins_a_tie(self) -> None:
        assert self.model("columns", "data", square=True).bind((normal(4, 4),)).structure.data_plate == "data"

    def test_that_is_ambiguous_has_to_be_named(self) -> None:
        with pytest.raises(InputError, match=r"2 plates of the batch's size 4 \(rows, columns\): name the one"):
            self.model("rows", "columns", square=True).bind((normal(4, 4),))
        program = Program(self.model("rows", "columns", square=True).model, data_plate="rows").bind((normal(4, 4),))
        assert program.structure.data_plate == "rows"
        with pytest.raises(InputError, match=r"data_plate='row' .* did you mean 'rows'"):
            Program(self.model("rows", "columns").model, data_plate="row").bind((normal(4, 4),))

    def test_as_a_python_loop_is_reported(self) -> None:
        with pytest.raises(InputError, match=r"the plate 'rows' of model is a Python loop: write `with pyro\.plate"):
            self.model("rows", loop=True).bind((normal(5, 3),))


def test_check_passes_every_program(case: tuple[BoundProgram, Batch, str]) -> None:
    program, batch, _ = case
    check(program, batch)
    check_observations(program, batch)
    assert program.parameters()
