"""Counts with an exposure and a batch: the density compared with SciPy's, and a fit to a file of cells."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
import yaml
from scipy import special, stats

from ppl_vae import VariationalInference
from ppl_vae.estimator import load
from ppl_vae.models.count_vae import CountVAE
from ppl_vae.program import Program
from tests.helpers.cells import simulated
from tests.helpers.modules import in_double
from tests.helpers.runs import run_without_figures


@pytest.mark.parametrize("likelihood", ["negative-binomial", "zero-inflated-negative-binomial"])
def test_log_weights_equal_scipy(likelihood: Literal["negative-binomial", "zero-inflated-negative-binomial"]) -> None:
    module = in_double(CountVAE, data_dim=5, num_batches=2, latent_dim=2, hidden=(7,), likelihood=likelihood)
    with torch.no_grad():
        module.log_shape.copy_(torch.linspace(-1, 1, 5))
    x, batch = torch.tensor([[0.0, 3, 1, 0, 9], [2, 0, 0, 5, 1]], dtype=torch.double), torch.tensor([1, -1])
    exposure = torch.tensor([20, 3])  # whole numbers, as a column of a table has them
    program = Program(module).bind((x, batch, exposure))
    with torch.no_grad():
        torch.manual_seed(0)
        z = program.posterior((x, batch, exposure), 3).latents["z"].numpy()
        torch.manual_seed(0)
        found = program.log_weights((x, batch, exposure), 3).numpy()
        one_hot = np.array([[0.0, 1.0], [0.0, 0.0]])
        seen = np.concatenate([z, np.broadcast_to(one_hot, (3, 2, 2))], -1)
        outputs = module.decoder(torch.from_numpy(seen)).numpy()
        loc, scale = (
            part.numpy() for part in module.encoder(torch.from_numpy(np.hstack([np.log1p(x.numpy()), one_hot])))
        )
    mean = exposure.numpy()[:, None] * special.softmax(outputs[..., :5], -1)
    shape = np.exp(np.linspace(-1, 1, 5))
    density = stats.nbinom(shape, shape / (shape + mean)).pmf(x.numpy())
    if likelihood.startswith("zero"):
        gate = special.expit(outputs[..., 5:])
        density = gate * (x.numpy() == 0) + (1 - gate) * density
    expected = np.log(density).sum(-1) + (stats.norm.logpdf(z) - stats.norm.logpdf(z, loc, scale)).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_file_of_cells_is_fitted_and_its_categories_are_conditions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    adata = simulated()
    adata.write_h5ad("own.h5ad")
    options = [
        "--layer",
        "counts",
        "--obs",
        "y=cell_type",
        "--max-epochs",
        "1",
        "--num-samples",
        "5",
        "--compile",
        "off",
    ]
    fit = [
        "--data",
        "own.h5ad",
        *options,
        "--compile",
        "off",
        "--model",
        "count_vae",
        "--model.hidden",
        "[4]",
        "--output",
        "run",
    ]
    assert run_without_figures("fit", fit) == 0
    written = yaml.safe_load(Path("run/config.yaml").read_text())["model"]["init_args"]
    assert (written["data_dim"], written["num_batches"]) == (5, 2)
    counts = adata.copy()
    counts.X = counts.layers["counts"]
    vi = load("run")
    assert isinstance(vi, VariationalInference)
    is_west = (counts.obs["batch"] == "west").to_numpy()
    west = counts[is_west].copy()  # its categories are east no more, and its codes are those of the fit all the same
    np.testing.assert_allclose(vi.transform(west), vi.transform(counts)[is_west], rtol=1e-4, atol=1e-5)
