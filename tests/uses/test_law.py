"""Every verb of the uses, on every program of the gallery and on one of unusual names, shapes and sites."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ppl_vae import InputError, VariationalInference
from ppl_vae.cli.opened import Done, Opened
from ppl_vae.data import Dataset
from ppl_vae.program import Program
from ppl_vae.runs import Run
from tests.helpers.gallery import GALLERY, Case
from tests.helpers.scenarios import Shared, Unusual, normal

CASES = {
    **GALLERY,
    "unusual": Case(Unusual, (normal(21, 3, 4), torch.arange(21).double() % 5)),
    "vae, per-sample": GALLERY["vae"],
    "gmvae, semi-amortized": GALLERY["gmvae"],
    "shared": Case(Shared, (normal(21, 3),)),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "generate": {"num_data": 5, "what": "mean,sample"},
    "reconstruct": {"num_data": 3, "num_draws": 2},
    "interpolate": {"num_pairs": 2, "num_steps": 3},
    "traverse": {"num_dimensions": 3, "num_steps": 3},
    "manifold": {"num_steps": 3},
    "latents": {"num_posteriors": 2},
    "embed": {},
    "impute": {"hide": 0.4, "num_data": 4, "num_samples": 40},
    "augment": {"num_data": 3, "copies": 2},
    "outliers": {"num_samples": 20},
}
NO_LATENTS = {"interpolate", "traverse", "manifold", "latents", "embed"}
REFUSED = {  # and by these only
    "autoencoder": {"generate", "impute", "manifold"},  # its code can be looked at and moved
    "normal": NO_LATENTS,
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Opened]:
    name, made = request.param, CASES[request.param]
    torch.manual_seed(0)
    program = made.make()
    arguments = Program(program).argument_names[: len(made.batch)]
    arrays = {key: value.numpy() for key, value in zip(arguments, made.batch, strict=True)}
    few = {"max_epochs": 1, "batch_size": 7, "inference_steps": 20}
    guide = (
        "per-sample" if name == "shared" else (name.partition(", ")[2] or "amortized").replace("ladder", "amortized")
    )
    vi = VariationalInference(program, guide=guide, **few, precision="64-true", compile="off").fit(arrays)
    image_shape = (8, 9) if name == "conv_vae" else None
    data = Dataset.__new__(Dataset)  # as it is after its checks, which want an x
    for field, value in {"name": name, "image_shape": image_shape, "binarize": "none"}.items():
        object.__setattr__(data, field, value)
    for part in ("train", "valid", "test"):
        object.__setattr__(data, part, arrays)
    run = Run(tmp_path_factory.mktemp("run"))
    return name, Opened(run, vi, data, ("png",))


@pytest.mark.parametrize("verb", OPTIONS)
def test_every_verb_on_every_program(verb: str, case: tuple[str, Opened]) -> None:
    name, it = case
    use: Callable[..., Done] = getattr(importlib.import_module(f"ppl_vae.cli.{verb}"), verb)
    if verb in REFUSED.get(name, ()):
        with pytest.raises(InputError, match=r"no latents|does not generate|computes with the data"):
            use(it, **OPTIONS[verb])
        return
    done = use(it, **OPTIONS[verb])
    for path in done.files:
        assert path.stat().st_size > 100
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                assert file.files
                for key in file.files:
                    array = file[key]
                    if array.dtype.kind == "f" and verb != "traverse":  # whose latents may have few values
                        assert np.isfinite(array).all(), key
    LAWS.get(verb, lambda *_: None)(done.result, it)


def reconstruct_law(found: Any, it: Opened) -> None:
    observed = it.vi.observed(it.data.test)
    for name, data in found.data.items():
        assert found.mean[name].shape == data.shape == (3, *observed[name].shape[1:])
        assert found.draws[name].shape == (2, *data.shape)


def interpolate_law(found: Any, it: Opened) -> None:
    np.testing.assert_allclose(found.weights, [0, 0.5, 1])
    assert all(mean.shape[:2] == (3, 2) for mean in found.means.values())


def traverse_law(found: Any, it: Opened) -> None:
    assert it.vi.has_latents is False or (np.diff(found.divergence) <= 0).all()
    for mean in found.means.values():
        moved = np.isfinite(mean.reshape(*mean.shape[:2], -1)).all(-1)
        np.testing.assert_array_equal(moved, np.isfinite(found.values))


def embed_law(found: Any, it: Opened) -> None:
    assert found.mean.shape == found.sd.shape == (21, len(found.names))
    assert len(set(found.names)) == len(found.names)
    assert (found.sd >= 0).all()


def impute_law(found: Any, it: Opened) -> None:
    observed = it.vi.observed(it.arrays("test", 4))
    for name, hole in found.missing.items():
        np.testing.assert_allclose(found.mean[name][~hole], observed[name][~hole], rtol=1e-12)
        assert (found.sd[name][~hole] == 0).all()
        assert (found.draws[name][:, ~hole] == observed[name][~hole]).all()
        assert (found.lower[name] <= found.upper[name]).all()
    assert any(hole.any() for hole in found.missing.values())


def augment_law(found: Any, it: Opened) -> None:
    given = it.arrays("train", 3)
    assert (found.rows == [0, 0, 1, 1, 2, 2]).all()
    for name, array in given.items():
        assert found.arrays[name].shape == (6, *array.shape[1:])


def outliers_law(found: Any, it: Opened) -> None:
    assert sorted(found.order) == list(range(21))
    assert (np.diff(found.log_evidence[found.order]) >= 0).all()


LAWS: dict[str, Callable[[Any, Opened], None]] = {
    "reconstruct": reconstruct_law,
    "interpolate": interpolate_law,
    "traverse": traverse_law,
    "embed": embed_law,
    "impute": impute_law,
    "augment": augment_law,
    "outliers": outliers_law,
}


def test_files_are_written_where_they_are_told(case: tuple[str, Opened]) -> None:
    _, it = case
    assert {path.suffix for path in (it.run.path / "figures").iterdir()} <= {".png"}
    assert not [path for path in Path(it.run.path).rglob(".*")]
