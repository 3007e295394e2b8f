"""One law for every method of inference, and for a method that is added at run time: it fits, saves, loads, scores and
resumes, in Python and on the command line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from ppl_vae import InputError, VariationalInference, load
from ppl_vae.cli import main
from ppl_vae.estimator import describe
from ppl_vae.estimator.options import option_kinds, with_options
from ppl_vae.inference import METHODS, Method, MethodOptions, Step
from ppl_vae.inference.options import OWN, Positive, argument_help
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.program import Batch, seeded
from tests.helpers.runs import run_without_figures
from tests.helpers.scenarios import normal

# ------------------------------------------------------------------------- the first edit: one file with the method


@dataclass(frozen=True)
class PlainOptions(MethodOptions):
    """The options of plain inference.

    Args:
        factor: factor of the ELBO in the objective. The default is 1.
    """

    factor: Positive = 1.0

    def check(self) -> None:
        super().check()
        if self.num_particles > 4:
            raise InputError(f"num_particles is {self.num_particles}: plain inference draws at most 4")


class Plain(Method):
    """The gradient of the mean log weight, without any of the package's own steps."""

    Options = PlainOptions

    def describe_posterior(self) -> str:
        return "Plain inference."

    def steps(self, batches: Iterable[Batch], optimizer: torch.optim.Optimizer, epoch: int) -> Iterator[Step]:
        for batch in batches:
            elbo = self.program.log_weights(batch, self.options.num_particles).mean()
            optimizer.zero_grad()
            (-self.options.factor * elbo).backward()
            optimizer.step()
            yield Step(elbo.detach(), len(batch[0]))


# ------------------------------------------------------------------- the second edit: one line in the list of methods


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    METHODS["plain"] = Plain
    with_options(VariationalInference)
    yield
    del METHODS["plain"]
    with_options(VariationalInference)


# ------------------------------------------------------------------------------------- the third edit: one line of test

NAMES = [*METHODS, "plain"]


X = normal(40, 5).float().numpy()


def estimator(guide: str, **options: object) -> VariationalInference:
    with seeded(0):
        program = FactorAnalysis(data_dim=5, latent_dim=2)
    common = {"max_epochs": 3, "batch_size": 16, "num_samples": 20, "local_steps": 3, "inference_steps": 5}
    return VariationalInference(program, guide, **(common | {"learning_rate": 0.02} | options))


@pytest.mark.parametrize("guide", NAMES)
def test_every_method_fits_saves_loads_scores_and_resumes(guide: str, tmp_path: Path) -> None:
    vi, path = estimator(guide), tmp_path / "checkpoint.safetensors"
    vi.prepare({"x": X[:32]}, {"x": X[32:]})
    rows = list(vi.epochs())
    assert [row.epoch for row in rows] == [1, 2, 3]
    assert rows[-1].elbo_train > rows[0].elbo_train
    vi.save_checkpoint(path)
    loaded = estimator(guide).load_parameters(path)
    np.testing.assert_array_equal(loaded.score_samples(X), vi.score_samples(X))
    np.testing.assert_array_equal(loaded.transform(X), vi.transform(X))
    assert np.isfinite(vi.score(X))

    stopped = estimator(guide)
    stopped.prepare({"x": X[:32]}, {"x": X[32:]})
    first = next(stopped.epochs())
    stopped.save_checkpoint(path)
    resumed = estimator(guide)
    resumed.prepare({"x": X[:32]}, {"x": X[32:]}, resume=path)
    assert [first, *resumed.epochs()] == rows


@pytest.mark.parametrize("guide", NAMES)
def test_every_method_refuses_what_would_change_the_objective_of_another(guide: str) -> None:
    owners = {
        option.name: name
        for name, method in METHODS.items()
        for option in method.Options.__dataclass_fields__.values()
        if option.metadata.items() >= OWN.items()
    }
    values = {"bound": "iwae", "free_bits": 0.5, "analytic_kl": True, "accumulate": 2, "encoder_noise": 0.1}
    assert owners == dict.fromkeys(values, "amortized")
    for name, value in values.items():
        if guide != "amortized":
            with pytest.raises(InputError, match=f"{name}={value!r} is for guide='amortized' alone: leave it out"):
                estimator(guide, **{name: value}).fit(X)


def test_an_added_method_is_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("my.npz", x=X)
    options = ["--data", "my.npz", "--model", "factor_analysis", "--model.latent-dim", "2", "--guide", "plain"]
    options += ["--max-epochs", "2", "--num-samples", "5"]
    assert run_without_figures("fit", [*options, "--factor", "2.0"]) == 0
    vi = load("runs/my-factor_analysis-plain")
    assert isinstance(vi.inference_, Plain)
    assert (vi.guide, vi.inference_.options.factor) == ("plain", 2.0)
    assert describe(vi).inference == "Plain inference."
    for more, message in {
        ("--factor", "0"): "error: factor is 0.0: expected a positive number\n",
        ("--num-particles", "5"): "error: num_particles is 5: plain inference draws at most 4\n",
    }.items():
        capsys.readouterr()
        assert main(["fit", *options, *more, "--overwrite"]) == 2
        assert capsys.readouterr().err == message


def test_every_option_has_a_help_and_one_meaning() -> None:
    """The dataclasses that have an option in common inherit it, or agree on its type and default."""
    texts = argument_help(option_kinds())
    fields = [(field.name, field.type, field.default) for kind in option_kinds() for field in dataclasses.fields(kind)]
    assert len({name for name, *_ in fields}) == len(set(fields)) == len(texts)
    assert {name for name, *_ in fields} == set(texts)
    for name, text in texts.items():
        assert text.endswith("."), name
        assert f"\n    {name}: " in (VariationalInference.__doc__ or "")
    assert set(texts) | {"program", "guide"} == set(VariationalInference.option_names())
