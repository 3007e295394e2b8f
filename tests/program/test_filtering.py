"""Programs of chains, run one step at a time, and the evidence that particle filters find for them."""

from __future__ import annotations

from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_vae import InputError, VariationalInference
from ppl_vae.data import one_step
from ppl_vae.inference import Compiler
from ppl_vae.models.deep_markov_model import DeepMarkovModel
from ppl_vae.models.vae import VAE
from ppl_vae.networks import GaussianChain
from ppl_vae.program import Program, chain_steps, check_chain_steps, seeded
from tests.helpers.densities import LinearChain
from tests.helpers.scenarios import bits

LENGTHS = torch.tensor([9, 4, 1, 7, 9])


class Linear(nn.Module):
    """The program of ``LinearChain``, whose guide knows the posterior of a step up to its deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(1, dtype=torch.double))

    def model(self, x: Tensor, lengths: Tensor) -> None:
        pyro.module("chain", self)
        within = torch.arange(x.shape[1]) < lengths[:, None]
        with pyro.plate("data", len(x), dim=-2):
            z = pyro.sample("z", GaussianChain(_forwards, self.start, num_steps=x.shape[1], lengths=lengths[:, None]))
            with pyro.plate("steps", x.shape[1], dim=-1), poutine.mask(mask=within):
                self.observe(z.squeeze(-3)[..., 0], x)

    def observe(self, z: Tensor, x: Tensor) -> None:
        pyro.sample("x", dist.Normal(z, LinearChain.error), obs=x)

    def guide(self, x: Tensor, lengths: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-2):
            pyro.sample("z", GaussianChain(_towards_x, self.start, x[:, None, :, None], lengths=lengths[:, None]))


class Smooth(Linear):
    """A step of x depends on two latents."""

    def observe(self, z: Tensor, x: Tensor) -> None:
        super().observe((z + z.roll(1, -1)) / 2, x)


class Reshaping(Linear):
    """A network of fixed dimensions, so that draws repeat the data instead of adding a dimension in front."""

    def observe(self, z: Tensor, x: Tensor) -> None:
        super().observe(z.reshape(x.shape), x)


class OfNineSteps(Linear):
    """The model knows the number of steps."""

    def observe(self, z: Tensor, x: Tensor) -> None:
        super().observe(z + torch.zeros(9), x)


class GuideWithoutChain(Linear):
    def guide(self, x: Tensor, lengths: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-2):
            pyro.sample("z", dist.Normal(x[:, None, :, None], 1.0).to_event(2))


def _forwards(z: Tensor) -> tuple[Tensor, Tensor]:
    return LinearChain.decay * z, torch.full_like(z, LinearChain.noise)


def _towards_x(z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    precision = LinearChain.noise**-2 + LinearChain.error**-2
    loc = (LinearChain.decay * z / LinearChain.noise**2 + x / LinearChain.error**2) / precision
    return loc, torch.full_like(loc, 1.5 * precision**-0.5)


def fitted(module: nn.Module, *arrays: Any) -> VariationalInference:
    """Return a fit whose parameters are as good as those of the module."""
    options: dict[str, Any] = {"max_epochs": 1, "learning_rate": 1e-12, "validation_fraction": 0, "compile": "off"}
    return VariationalInference(module, **options).fit(*arrays)


def test_the_evidence_of_a_program_is_that_of_the_kalman_filter() -> None:
    case = LinearChain(num_data=30, num_steps=25)
    x, lengths = case.x.numpy(), case.lengths.numpy()
    vi = fitted(Linear(), x, lengths)
    estimate = vi.evidence(x, lengths, estimator="smc", num_samples=2000)
    errors = estimate.log_evidence - case.log_evidence
    assert estimate.mcse.max() < 0.3
    assert (errors.abs() < 5 * estimate.mcse).all()  # t with 9 degrees of freedom: 0.07 percent are larger
    weighed = vi.evidence(x, lengths, num_samples=2000)
    assert errors.abs().mean() < (weighed.log_evidence - case.log_evidence).abs().mean() / 2
    case.lengths[:] = 11
    short = LinearChain(num_data=30, num_steps=25)
    short.x = short.x[:, :11]
    estimate = vi.evidence(x, case.lengths.numpy(), estimator="smc", num_samples=2000)
    assert ((estimate.log_evidence - short.log_evidence).abs() < 5 * estimate.mcse).all()


@pytest.mark.parametrize("name", ["future", "all", "reshaping"])
def test_the_weights_of_steps_add_up_to_those_of_a_sequence(name: str) -> None:
    sizes: dict[str, Any] = {"features": 3, "latent_dim": 2, "emission": 4, "transition": 5, "rnn": 6}
    with seeded(0):
        module, x = Reshaping(), LinearChain(num_data=5, num_steps=9).x
        if name != "reshaping":
            module, x = DeepMarkovModel(**sizes, reads=name).double(), bits(5, 9, 3)
    batch = x, LENGTHS
    program, step_of = Program(module).bind(batch), partial(one_step, ("x", "lengths"))
    assert program.structure.draws_by == ("repeat" if name == "reshaping" else "plate")
    check_chain_steps(program, step_of)
    steps = chain_steps(program, batch, step_of, num_particles=4)
    with seeded(1):
        z, total, path = None, torch.zeros(()), []
        for step in range(steps.num_steps):
            z, log_weight = steps.extend(z, step)
            assert (log_weight[:, step >= LENGTHS] == 0).all()
            path.append(z)
            total = total + log_weight
    with program.running(), torch.no_grad():  # each draw by itself, as Pyro lays it out: (B, 1, T, L)
        paths = torch.stack(path, 2)[:, :, None]
        for values, expected in zip(paths, total, strict=True):
            traces = (program.run(fn, batch, 1, {"z": values}) for fn in (module.model, module.guide))
            log_p, log_q = (program.structure.log_density(trace, 1)[0] for trace in traces)
            torch.testing.assert_close(expected, log_p - log_q)


def test_one_graph_moves_the_particles_of_batches_of_all_lengths() -> None:
    """Steps that are functions, which may know a batch, have none."""
    with seeded(0):
        module = DeepMarkovModel(features=3, latent_dim=2, emission=4, transition=5, rnn=6).double()
    x, step_of, compiler = bits(5, 9, 3), partial(one_step, ("x", "lengths")), Compiler("on", say=pytest.fail)
    program = Program(module).bind((x, LENGTHS))
    for batch in ((x, LENGTHS), (1 - x[:, :6], LENGTHS.clamp(max=6))):
        steps = chain_steps(program, batch, step_of, num_particles=4)
        assert steps.is_shared
        z, _ = steps.extend(None, 0)
        for step in range(1, steps.num_steps):
            inputs = (z, *steps.inputs(step))
            with seeded(step):
                expected = steps.move(*inputs)
            with seeded(step), program.running(seed="current", training=False), torch.no_grad():
                found = compiler("it", steps.move, inputs, module=program.module)
            torch.testing.assert_close(found, expected)
            z = expected[0]
    assert len(compiler._known) == 1
    by_functions = chain_steps(Program(Linear()).bind((x[..., 0], LENGTHS)), (x[..., 0], LENGTHS), step_of, 4)
    assert not by_functions.is_shared


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Smooth(), "Smooth depend on more than the latent of their step.*: estimate the evidence by iwae or ais"),
        (OfNineSteps(), "OfNineSteps cannot be run on a single step of its sequences"),
        (GuideWithoutChain(), "'z' of GuideWithoutChain is no chain in the model and in the guide .there, it is"),
    ],
)
def test_what_cannot_be_filtered_is_refused(module: Linear, message: str) -> None:
    case = LinearChain(num_data=5, num_steps=9)
    program = Program(module).bind((case.x, case.lengths))
    with pytest.raises(InputError, match=message):
        check_chain_steps(program, partial(one_step, ("x", "lengths")))


def test_a_program_without_a_chain_and_too_few_draws_are_refused() -> None:
    vi = fitted(VAE(data_dim=6, latent_dim=2, hidden=(5,)), bits(20, 6).float().numpy())
    with pytest.raises(InputError, match="'z' of VAE is no chain"):
        vi.evidence(bits(4, 6).float().numpy(), estimator="smc")
    with pytest.raises(InputError, match="--num-samples 19 are too few for 10 filters of smc"):
        vi.evidence(bits(4, 6).float().numpy(), estimator="smc", num_samples=19)
