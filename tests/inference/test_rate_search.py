"""The search for a learning rate: its steps on a quadratic, and a search that leaves the estimator as it was."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor
from torch.testing import assert_close

from ppl_vae import VariationalInference
from ppl_vae.cli import main
from ppl_vae.errors import InputError
from ppl_vae.inference.method import Step
from ppl_vae.inference.rate_search import HIGHEST, LOWEST, RateSearch, search_rate
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.program import seeded

NUM_STEPS, START = 100, 3.0


def search_on_quadratic(curvature: float, num_steps: int = NUM_STEPS) -> RateSearch:
    """Search with gradient descent on :math:`-a w^2 / 2`."""
    weight = torch.nn.Parameter(torch.tensor(START, dtype=torch.double))
    optimizer = torch.optim.SGD([weight], lr=1.0)

    def take_steps(batches: Iterable[tuple[Tensor, ...]]) -> Iterator[Step]:
        for (x,) in batches:
            optimizer.zero_grad()
            loss = curvature * weight.square() / 2 + 0 * x.sum()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            yield Step(-loss.detach(), len(x))

    return search_rate(take_steps, optimizer, itertools.repeat((torch.zeros(1),)), num_steps)


@pytest.mark.parametrize("curvature", [1.0, 30.0, 1000.0])
def test_the_steps_are_those_of_gradient_descent_at_rising_rates(curvature: float) -> None:
    search, rates = search_on_quadratic(curvature), np.geomspace(LOWEST, HIGHEST, NUM_STEPS)
    weights = START * np.cumprod(np.concatenate([[1.0], 1 - rates[:-1] * curvature]))
    elbos = -curvature * weights**2 / 2
    taken = len(search.rates)
    assert np.array_equal(search.rates, rates[:taken])
    assert (elbos[:taken] >= 2 * elbos[0]).all()
    assert taken == NUM_STEPS or elbos[taken] < 2 * elbos[0]  # it ends where the objective has fallen far
    means = [elbos[i - 5 : i + 6].mean() for i in range(5, taken - 5)]
    assert search.elbos[5:-5] == pytest.approx(np.array(means), rel=1e-9)
    assert search.suggestion < 0.3 / curvature  # gradient descent diverges at twice the inverse of the curvature
    assert search.suggestion * 10 == pytest.approx(rates[search.elbos.argmax()], rel=0.06)  # two digits


def test_a_search_that_cannot_succeed_says_why() -> None:
    with pytest.raises(InputError, match="num_steps is 19: a search for a learning rate needs 20 or more"):
        search_on_quadratic(1.0, 19)
    with pytest.raises(InputError, match="ended after 0 steps, at a rate of 1e-06: the objective is not finite"):
        search_on_quadratic(float("nan"))
    with pytest.raises(InputError, match="saw no rise of the objective above its noise in 100 steps"):
        search_on_quadratic(0.0)


@pytest.mark.parametrize("guide", ["amortized", "per-sample"])
def test_a_search_leaves_the_estimator_as_it_was(guide: str) -> None:
    x = (torch.randn(150, 1, generator=torch.Generator().manual_seed(0)) + torch.arange(4.0)).numpy()
    with seeded(0):
        program = FactorAnalysis(data_dim=4, latent_dim=2)
    vi = VariationalInference(program, guide, local_steps=2, max_epochs=2, batch_size=32)
    before = {name: tensor.clone() for name, tensor in program.state_dict().items()}
    options, random = vi.get_params(), torch.random.get_rng_state()
    search = vi.find_learning_rate(x, num_steps=40)
    assert_close(program.state_dict(), before, rtol=0, atol=0)
    assert vi.get_params() == options
    assert torch.equal(torch.random.get_rng_state(), random)
    assert not hasattr(vi, "fitted_")
    again = vi.find_learning_rate(x, num_steps=40)
    assert np.array_equal(search.elbos, again.elbos)
    assert 1e-4 < search.suggestion <= 0.1
    (axes,) = search.plot().axes
    (label,) = axes.get_legend().get_texts()
    assert label.get_text() == f"suggested: {search.suggestion:g}"


def test_a_fit_writes_the_rate_that_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savetxt("x.csv", np.random.default_rng(0).normal(size=(200, 2)), delimiter=",", header="a,b", comments="")
    fit = ["fit", "--data", "x.csv", "--model", "normal", "--max-epochs", "2", "--output", "run", "--num-samples", "5"]
    assert main([*fit, "--find-learning-rate"]) == 0
    printed = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("learning rate"))
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert printed.startswith(f"learning rate {config['learning_rate']:g}, a tenth of the best of ")
    assert config["learning_rate"] != 2e-3
    assert "find_learning_rate" not in config
    assert main(["fit", "--resume", "--output", "run", "--find-learning-rate"]) == 2
    assert "--resume goes on with the learning rate of the run" in capsys.readouterr().err
