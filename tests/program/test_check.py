"""Test that each fault of a program is reported in one line, with its place and its remedy."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae import VariationalInference
from ppl_vae.errors import InputError, InputWarning
from ppl_vae.models.vae import VAE
from ppl_vae.program import Program, are_within, check, check_batch, check_observations, fixed_supports
from tests.helpers.scenarios import Conjugate, Sequences, bits, normal


class Faulty(nn.Module):
    """A sound program whose parts the faults below replace one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder, self.encoder = nn.Linear(2, 3), nn.Linear(3, 2)

    def plate(self, x: Tensor) -> pyro.plate:
        return pyro.plate("data", len(x))

    def prior(self, x: Tensor) -> pyro.distributions.TorchDistribution:
        return dist.Normal(x.new_zeros(2), 1.0).to_event(1)

    def likelihood(self, z: Tensor) -> pyro.distributions.TorchDistribution:
        return dist.Normal(self.decoder(z), 1.0).to_event(1)

    def posterior(self, x: Tensor) -> pyro.distributions.TorchDistribution:
        return dist.Normal(self.encoder(x), 1.0).to_event(1)

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with self.plate(x):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(z), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with self.plate(x):
            pyro.sample("z", self.posterior(x))


class LatentOutside(Faulty):
    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        z = pyro.sample("z", self.prior(x))
        with self.plate(x):
            pyro.sample("x", self.likelihood(z), obs=x)


class GuideLatentOutside(Faulty):
    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        pyro.sample("z", self.posterior(x).to_event(1))


class FixedPlate(Faulty):
    def plate(self, x: Tensor) -> pyro.plate:
        return pyro.plate("data", 64)


class NoPlate(Faulty):
    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), 2), 1.0).to_event(2))
        pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(2), obs=x)


class NothingObserved(Faulty):
    def model(self, x: Tensor) -> None:
        with self.plate(x):
            pyro.sample("x", self.likelihood(pyro.sample("z", self.prior(x))))


class OtherName(Faulty):
    def guide(self, x: Tensor) -> None:
        with self.plate(x):
            pyro.sample("w", self.posterior(x))


class MissingSite(Faulty):
    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)


class OtherWidth(Faulty):
    def posterior(self, x: Tensor) -> pyro.distributions.TorchDistribution:
        return dist.Normal(self.encoder(x)[..., :1], 1.0).to_event(1)


class OtherEvent(Faulty):
    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x), dim=-2):
            pyro.sample("z", dist.Normal(self.encoder(x), 1.0))


class ForgottenEvent(Faulty):
    """One column without to_event: (7, 1) in a plate of 7 becomes (7, 7), without a warning from Pyro."""

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with self.plate(x):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", dist.Normal(self.decoder(z)[..., :1], 1.0), obs=x[..., :1])


class PointMass(Faulty):
    def posterior(self, x: Tensor) -> pyro.distributions.TorchDistribution:
        return dist.Delta(self.encoder(x)).to_event(1)


class NoLatentDimension(Faulty):
    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about initialising nothing
            self.decoder, self.encoder = nn.Linear(0, 3), nn.Linear(3, 0)

    def prior(self, x: Tensor) -> pyro.distributions.TorchDistribution:
        return dist.Normal(x.new_zeros(0), 1.0).to_event(1)


class OtherSupport(Faulty):
    def prior(self, x: Tensor) -> pyro.distributions.TorchDistribution:
        return dist.LogNormal(x.new_zeros(2), 1.0).to_event(1)


class ForgottenModule(Faulty):
    def guide(self, x: Tensor) -> None:
        with self.plate(x):
            pyro.sample("z", self.posterior(x))


class UnusedParameter(Faulty):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 2))
        self.encoder.register_parameter("idle", nn.Parameter(torch.zeros(2)))


class NoGradient(Faulty):
    def posterior(self, x: Tensor) -> pyro.distributions.TorchDistribution:
        return dist.Normal(self.encoder(x).detach(), 1.0).to_event(1)

    def likelihood(self, z: Tensor) -> pyro.distributions.TorchDistribution:
        return dist.Normal(self.decoder(z).detach(), 1.0).to_event(1)


class Crash(Faulty):
    def likelihood(self, z: Tensor) -> pyro.distributions.TorchDistribution:
        return dist.Normal(z @ torch.ones(5, 3), 1.0).to_event(1)


class Overflow(Faulty):
    def likelihood(self, z: Tensor) -> pyro.distributions.TorchDistribution:
        return dist.Normal(self.decoder(z), 1e-300).to_event(1)


class Counts(Faulty):
    def likelihood(self, z: Tensor) -> pyro.distributions.TorchDistribution:
        return dist.Poisson(self.decoder(z).exp()).to_event(1)


class Subsampled(Faulty):
    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x), dim=-2):
            z = pyro.sample("z", dist.Normal(x.new_zeros(1, 2), 1.0).to_event(1))
            with pyro.plate("values", 3, subsample_size=2, dim=-1) as chosen:
                pyro.sample("x", dist.Normal(self.decoder(z)[:, 0][:, chosen], 1.0), obs=x[:, chosen])


class ObservedOutside(Faulty):
    def model(self, x: Tensor) -> None:
        super().model(x)
        pyro.sample("total", dist.Normal(x.new_zeros(()), 1.0), obs=x.sum())


class OtherPlate(Faulty):
    def model(self, x: Tensor) -> None:
        super().model(x)
        with pyro.plate("rows", len(x)):
            pyro.sample("first", dist.Normal(x.new_zeros(()), 1.0), obs=x[:, 0])


class OfWholeNumbers(Faulty):
    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with self.plate(x):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=(x > 0).long())


class NotContiguous(Faulty):
    def __init__(self) -> None:
        super().__init__()
        self.encoder.weight = nn.Parameter(torch.zeros(3, 2).T)


FAULTS = {
    ObservedOutside: "the observed site 'total' of ObservedOutside lies outside the plate 'data', which holds 'x'",
    OtherPlate: "the observed site 'first' of OtherPlate lies outside the plate 'data', which holds 'x'",
    LatentOutside: "site 'z' of LatentOutside lies outside the data plate 'data': move it inside",
    GuideLatentOutside: "site 'z' of GuideLatentOutside lies outside the data plate 'data'",
    FixedPlate: "no plate covers the batch of 7 in FixedPlate: the observed site 'x' lies in 'data' of the fixed size "
    "64",
    NoPlate: "no plate covers the batch of 7 in NoPlate: the observed site 'x' lies in no plate",
    NothingObserved: "NothingObserved.model observes nothing: give the data to a site, pyro.sample(..., obs=x)",
    OtherName: "the guide samples 'w', the model does not (its latents: z)",
    MissingSite: "the model's latent 'z' is missing in the guide (it samples: nothing)",
    OtherWidth: "disagree at 'z': shape (7, 2) in the model, (7, 1) in the guide",
    OtherEvent: "site 'z' of OtherEvent has dimensions that are no plate's: its batch shape is (7, 2)",
    ForgottenEvent: "site 'x' of ForgottenEvent has dimensions that are no plate's: its batch shape is (7, 7)",
    PointMass: "the guide of PointMass puts a point mass (Delta) at 'z'",
    NoLatentDimension: "the latent 'z' of NoLatentDimension has size 0",
    OtherSupport: "the guide draws values outside the support of the model's LogNormal",
    ForgottenModule: "'encoder.weight' of ForgottenModule would never be trained: register its module, "
    "pyro.module('encoder', self.encoder)",
    NoGradient: "no parameter of NoGradient gets a gradient: no density depends on 'decoder.weight'; look",
    OfWholeNumbers: "observes int64 numbers under a Bernoulli, which has no density of them",
    NotContiguous: "'encoder.weight' of NotContiguous is not contiguous, so that Pyro trains a copy of it",
    Crash: "test_check.py:",
    Overflow: "the log weight of row 0 under Overflow is",
    Counts: "observes -2.31 (row 0), outside the support of its Poisson",
    Subsampled: "the plate 'values' of Subsampled is subsampled within a datum (2 of 3)",
}


@pytest.mark.parametrize("faulty", FAULTS)
def test_a_fault_is_reported_with_its_remedy(faulty: Callable[[], Faulty]) -> None:
    with pytest.raises(InputError) as caught:
        check(Program(faulty().double()), (normal(9, 3),))
    message = str(caught.value)
    assert FAULTS[faulty] in message  # type: ignore[index]
    assert "\n" not in message
    assert len(message) < 300
    assert len(pyro.get_param_store()) == 0


def test_a_part_that_is_not_trained_is_reported_in_one_line() -> None:
    with pytest.warns(InputWarning) as caught:
        check(Program(UnusedParameter().double()), (normal(9, 3),))
    (message,) = (str(warning.message) for warning in caught)
    assert message.startswith("the parameter 'encoder.idle' of UnusedParameter gets no gradient from these arguments")
    assert "requires_grad_(False)" in message


def test_the_program_without_a_fault_passes() -> None:
    check(Program(Faulty().double()), (normal(9, 3),))


def test_a_support_that_depends_on_a_latent_is_checked_at_the_draws_of_the_guide() -> None:
    class Bounded(Faulty):
        def model(self, x: Tensor) -> None:
            with self.plate(x):
                a = pyro.sample("a", dist.LogNormal(x.new_zeros(()), 1.0))
                z = pyro.sample("z", dist.Uniform(x.new_zeros(()), a))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])

        def guide(self, x: Tensor) -> None:
            pyro.module("encoder", self.encoder)
            loc, raw = self.encoder(x).unbind(-1)
            with self.plate(x):
                a = pyro.sample("a", dist.LogNormal(loc, 1.0))
                pyro.sample("z", dist.Uniform(x.new_zeros(()), a * torch.sigmoid(raw)))

    program = Bounded().double()
    del program.decoder
    with pytest.warns(InputWarning, match=r"draws 'z' from a part of the support of the model's Uniform"):
        check(Program(program), (normal(9, 3),))


def test_a_part_that_is_used_without_gradients_stays_and_the_others_train() -> None:
    class Pretrained(Faulty):
        def __init__(self) -> None:
            super().__init__()
            self.baseline = nn.Linear(3, 2)

        def model(self, x: Tensor) -> None:
            pyro.module("all", self)
            with self.plate(x):
                with torch.no_grad():
                    loc = self.baseline(x)
                z = pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))
                pyro.sample("x", self.likelihood(z), obs=x)

    program = Pretrained()
    before = {name: value.clone() for name, value in program.state_dict().items()}
    with pytest.warns(InputWarning, match=r"2 parameters, such as 'all.baseline.weight', of Pretrained get no"):
        VariationalInference(program, max_epochs=1, compile="off").fit(normal(20, 3).float().numpy())
    for name, value in program.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("baseline")


def test_a_missing_guide_is_reported() -> None:
    with pytest.raises(InputError, match=r"model has no guide, .*: write guide\(self, x\), which samples 'z'"):
        check(Program(Faulty().double().model), (normal(9, 3),))


def test_a_crash_names_the_users_line() -> None:
    with pytest.raises(InputError, match=r"test_check.py:\d+ `return dist.Normal\(z @ torch.ones\(5, 3\)") as caught:
        check(Program(Crash().double()), (normal(9, 3),))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_grey_values_under_a_bernoulli_with_their_row() -> None:
    x = bits(50, 8)
    program = Program(VAE(data_dim=8).double()).bind((x,))
    check_observations(program, (x,))
    x[33, 5] = 0.3
    check(program, (x,))  # sees the first rows only
    with pytest.raises(InputError, match=r"site 'x' of VAE observes 0.3 \(row 133\) under a Bernoulli.*--binarize"):
        check_observations(program, (x,), first_row=100)


def test_supports_that_are_the_same_for_all_data_are_known_without_a_run() -> None:
    x = bits(50, 8)
    program = Program(VAE(data_dim=8).double()).bind((x[:7],))
    supports = fixed_supports(program, (x[:7],))
    assert [argument for argument, _ in supports or ()] == [0]
    assert are_within(supports or (), (x,))
    x[33, 5] = 0.3
    assert not are_within(supports or (), (x,))

    class Trials(Conjugate):
        def model(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
                pyro.sample("x", dist.Binomial(x.abs().ceil() + 2, logits=z), obs=x)

    class Rounded(Conjugate):
        def model(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
                pyro.sample("x", dist.Poisson(z.exp()), obs=x.abs().round())

    for other in (Trials, Rounded):
        assert fixed_supports(Program(other().double()).bind((bits(7),)), (bits(7),)) is None


def test_masked_values_may_be_anything() -> None:
    class Masked(Conjugate):
        def model(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)), pyro.poutine.mask(mask=x > 0):
                z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
                pyro.sample("x", dist.Exponential(z.exp()), obs=x)

    check_observations(Program(Masked().double()).bind((normal(9),)), (normal(9),))

    class MaskedBits(Faulty):
        def likelihood(self, z: Tensor) -> pyro.distributions.TorchDistribution:
            return dist.Bernoulli(logits=self.decoder(z)).mask(seen).to_event(1)

    x, seen = bits(7, 3), normal(7, 3) < 0
    check(Program(MaskedBits().double()), (torch.where(seen, x, -1.0),))
    with pytest.raises(InputError, match="observes -1 "):
        check(Program(MaskedBits().double()), (torch.where(seen, -1.0, x),))


def test_what_the_model_masks_the_guide_masks_too() -> None:
    class Unmasked(Sequences):
        def guide(self, x: Tensor, lengths: Tensor) -> None:
            super().guide(x, torch.full_like(lengths, 5))

    batch = (normal(7, 5), torch.tensor([5, 3, 1, 2, 5, 4, 5]))
    check(Program(Sequences().double()), batch)
    with pytest.raises(InputError, match="disagree at 'z_1': it is masked in the one"):
        check(Program(Unmasked().double()), batch)


def test_a_trial_run_leaves_running_statistics_alone_and_a_batch_of_one_is_reported() -> None:
    class Normalised(Faulty):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))

    program = Program(Normalised().double()).bind((normal(9, 3),))
    before = {name: buffer.clone() for name, buffer in program.module.named_buffers()}
    check(program, (normal(9, 3),))
    check_batch(program, (normal(9, 3),))
    with pytest.raises(InputError, match=r"fails on a batch of 1 data .*: mend the program or choose another batch"):
        check_batch(program, (normal(1, 3),))
    assert all(torch.equal(buffer, before[name]) for name, buffer in program.module.named_buffers())


def test_validation_is_restored() -> None:
    with pytest.raises(InputError):
        check(Program(Crash().double()), (normal(9, 3),))
    assert pyro.settings.get("validate_distributions_pyro")
    with pyro.validation_enabled(False):
        check(Program(Faulty().double()), (normal(9, 3),))
        assert not pyro.settings.get("validate_distributions_pyro")
