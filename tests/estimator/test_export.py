"""Encoder and decoder as files that run without the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch

from ppl_vae import InputError, VariationalInference
from ppl_vae.compile import export
from ppl_vae.models.conv_vae import ConvVAE
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.program import seeded

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
OPTIONS: dict[str, Any] = {"max_epochs": 2, "num_samples": 50}


def fitted(**options: Any) -> VariationalInference:
    with seeded(0):
        program = FactorAnalysis(data_dim=3, latent_dim=2)
    return VariationalInference(program, **OPTIONS | options).fit(X, verbose=False)


def test_files_give_the_numbers_of_the_program_for_any_number_of_data(tmp_path: Path) -> None:
    """Those of factor analysis in units of the data, whose decoder is loc + W z."""
    vi = fitted(standardize=True)
    files = vi.export(tmp_path, formats=["pt2"])
    assert sorted(files) == sorted(path.name for path in tmp_path.iterdir())
    assert files["encoder.pt2"].outputs == {"z": (2,), "z_scale": (2,)}
    assert all(file.difference < 1e-5 for file in files.values())
    encode = torch.export.load(tmp_path / "encoder.pt2").module()
    mean, scale = (tensor.detach().numpy() for tensor in encode(torch.from_numpy(X[:13])))
    np.testing.assert_allclose(mean, vi.transform(X[:13]), atol=1e-5)
    draws = vi.posterior(X[:13], num_samples=4000).latents["z"]
    np.testing.assert_allclose(scale, draws.std(0), rtol=5 * (1 / 8000) ** 0.5)
    decode = torch.export.load(tmp_path / "decoder.pt2").module()
    z = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    (decoded,) = decode(z)
    expected = vi.sample(7, z=z.numpy(), mean=True)
    np.testing.assert_allclose(decoded.detach().numpy(), expected, atol=1e-5)


@pytest.mark.slow  # PyTorch's exporter takes seconds to import
def test_onnxruntime_gives_the_numbers_of_the_program(tmp_path: Path) -> None:
    vi = fitted(standardize=True)
    files = vi.export(tmp_path, formats=["onnx"])
    assert all(file.difference < 1e-5 for file in files.values())
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx")
    mean, _ = session.run(["z", "z_scale"], {"x": X[:13]})
    np.testing.assert_allclose(mean, vi.transform(X[:13]), atol=1e-5)


@pytest.fixture(scope="module")
def fits() -> dict[str, VariationalInference]:
    """A fit of images by convolutions, and one of a table of classes, counts and numbers with holes."""
    random = np.random.default_rng(0)
    images = (random.random((40, 1, 8, 8)) < 0.3).astype("float32")
    table = pd.DataFrame({"kind": random.choice(["a", "b", "c"], 40), "n": random.poisson(3, 40), "size": X[:, 0]})
    table.loc[::7, "size"] = np.nan
    with seeded(0):
        program = ConvVAE(image_shape=(1, 8, 8), latent_dim=2, channels=3, hidden=(5,))
    return {
        "images": VariationalInference(program, compile="off", **OPTIONS).fit(images, verbose=False),
        "table": VariationalInference("table_vae", compile="off", **OPTIONS).fit(table, verbose=False),
    }


@pytest.mark.parametrize("name", ["images", "table"])
def test_images_and_tables_are_exported(name: str, fits: dict[str, VariationalInference], tmp_path: Path) -> None:
    """The decoder takes another number of data than that of the example."""
    vi = fits[name]
    files = vi.export(tmp_path, formats=["pt2"])
    assert all(file.difference < 1e-4 for file in files.values())
    z = np.random.default_rng(1).normal(size=(5, *files["decoder.pt2"].inputs["z"])).astype("float32")
    mask = [torch.ones(5, 3, dtype=torch.bool)] if name == "table" else []
    (decoded,) = torch.export.load(files["decoder.pt2"].path).module()(torch.from_numpy(z), *mask)
    expected = vi.prior(5, z=z).means["x"]
    np.testing.assert_allclose(decoded.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["images", "table"])
def test_onnxruntime_runs_images_and_tables(name: str, fits: dict[str, VariationalInference], tmp_path: Path) -> None:
    files = fits[name].export(tmp_path, formats=["onnx"])
    assert sorted(files) == ["decoder.onnx", "encoder.onnx"]
    assert all(file.difference < 1e-4 for file in files.values())


def test_labels_are_inputs(tmp_path: Path) -> None:
    y = np.arange(40) % 3
    vi = VariationalInference("cvae", **OPTIONS).fit((X > 0).astype("float32"), y, verbose=False)
    (file,) = vi.export(tmp_path, parts=["decoder"], formats=["pt2"]).values()
    assert list(file.inputs) == ["z", "y"]
    z = np.ones((4, *file.inputs["z"]), dtype="float32")
    (decoded,) = torch.export.load(file.path).module()(torch.from_numpy(z), torch.tensor([0, 1, 2, 0]))
    expected = vi.sample(4, z=z, y=np.array([0, 1, 2, 0]), mean=True)
    np.testing.assert_allclose(decoded.detach().numpy(), expected, atol=1e-5)


def test_what_has_no_closed_form_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bits = (X > 0).astype("float32")
    hierarchical = VariationalInference("hierarchical_vae", **OPTIONS).fit(bits, verbose=False)
    with pytest.raises(InputError, match="depends on draws of other latents; export the decoder alone"):
        hierarchical.export(tmp_path, formats=["pt2"])
    flow = VariationalInference("flow_vae", **OPTIONS).fit(bits, verbose=False)
    with pytest.raises(InputError, match="whose mean is not known in closed form"):
        flow.export(tmp_path, formats=["pt2"])
    with pytest.raises(InputError, match="gradient steps, so that there is no encoder"):
        fitted(guide="per-sample", max_steps=2).export(tmp_path)
    vi = fitted()
    with pytest.raises(InputError, match="no format 'torch'"):
        vi.export(tmp_path, formats=["torch"])
    monkeypatch.setattr(export, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(InputError, match="numbers differ"):
        vi.export(tmp_path, parts=["decoder"], formats=["pt2"])
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'ppl-vae\[onnx\]'"):
        vi.export(tmp_path)
    assert not list(tmp_path.iterdir())
