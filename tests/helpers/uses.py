"""The law of the uses: what every verb writes for every program, and what each returns."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from ppl_vae import InputError, VariationalInference
from ppl_vae.cli.command import call
from ppl_vae.cli.opened import OpenRun, Selection
from ppl_vae.data import Dataset
from ppl_vae.estimator import describe
from ppl_vae.inference import METHODS
from ppl_vae.program import Program
from ppl_vae.runs import Run
from ppl_vae.uses.description import USES
from tests.helpers.gallery import GALLERY, Case
from tests.helpers.scenarios import Shared, Survey, Unusual, normal

CASES = {
    **GALLERY,
    "unusual": Case(Unusual, (normal(21, 3, 4), torch.arange(21).double() % 5)),
    "vae, per-sample": GALLERY["vae"],
    "gmvae, semi-amortized": GALLERY["gmvae"],
    "shared": Case(Shared, (normal(21, 3),)),
    "survey": Case(Survey, (torch.arange(42).double().reshape(21, 2) % 3,)),
}
REFUSED = {("augment", "not_miwae"): "what the site 'seen' of NotMIWAE observes is computed"}
"""Uses that a program cannot have for a reason of its own, which the error names."""
WITHOUT_DRAWS = {"latent_posteriors", "latent_aggregated"}
"""Figures that a code does not have, for it has no distribution."""


def open_case(name: str, folder: Path) -> OpenRun:
    """Return a fitted program of ``CASES`` as a run that is open."""
    case = CASES[name]
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    program = case.make()
    arguments = Program(program).argument_names[: len(case.batch)]
    arrays = {key: value.numpy() for key, value in zip(arguments, case.batch, strict=True)}
    if "x_mask" in arrays:
        arrays = {"x": np.where(arrays["x_mask"], arrays["x"], np.nan)}
    few = {"max_epochs": 1, "batch_size": 7, "inference_steps": 20}
    variant = "per-sample" if name == "shared" else name.partition(", ")[2]
    guide: Any = variant if variant in METHODS else "amortized"
    vi = VariationalInference(program, guide=guide, **few, precision="64-true", compile="off").fit(arrays)
    image_shape = (8, 9) if name == "conv_vae" else None
    data = Dataset.__new__(Dataset)  # as it is after its checks, which expect an array x
    for field, value in {"name": name, "image_shape": image_shape, "binarize": "none", "grey": "ink"}.items():
        object.__setattr__(data, field, value)
    for part in ("train", "valid", "test"):
        object.__setattr__(data, part, arrays)
    return OpenRun(Run(folder), vi, data, ("png",))


def check_use(verb: str, run: OpenRun, options: dict[str, Any]) -> None:
    """Check that a verb refuses a program that lacks what the use needs, and else writes all that it promises."""
    function = getattr(import_module(f"ppl_vae.cli.{verb}"), verb)
    use, roles = USES[verb], {row.role for row in describe(run.vi).sites}
    latents, code = roles & {"latent", "summed out"}, not run.vi.generates
    has = {*(["latents"] if latents or code else []), *(["generation"] if run.vi.generates else [])}
    if not use.fits(has):
        with pytest.raises(InputError, match=r"no latents|does not generate|computes with the data|the model needs it"):
            call(function, {"run": run, **options})
        return
    if (verb, run.data.name) in REFUSED:
        with pytest.raises(InputError, match=REFUSED[verb, run.data.name]):
            call(function, {"run": run, **options})
        return
    outcome = call(function, {"run": run, **options})
    arrays = run.run.path / "uses" / f"{verb}.npz"
    assert arrays in outcome.files
    with np.load(arrays, allow_pickle=False) as file:
        assert file.files
        no_mean = {f"{field}.{site}" for field in ("mean", "means") for site in run.vi.fitted.classes}
        assert not no_mean & set(file.files), "a class has no mean"
        for key in file.files:
            array = file[key]
            if key.startswith("data.") and run.data.name == "not_miwae":  # data with holes
                continue
            if array.dtype.kind == "f" and verb != "traverse":  # the latents of which may have few values
                assert np.isfinite(array).all(), key
    figures = [path for path in outcome.files if path.suffix == ".png"]
    for name in set(use.figures) - (WITHOUT_DRAWS if code else set()):
        assert [path for path in figures if path.stem.startswith(name)], f"there is no figure {name}"
    for path in figures:
        assert path.parent == run.run.path / "figures"
        assert any(path.stem.startswith(name) for name in use.figures), f"{path.name} is not described"
        assert imread(path)[..., :3].std() > 0.01, f"{path.name} is blank"
    assert set(outcome.files) == {arrays, *figures}
    assert not [path for path in run.run.path.rglob(".*")], "a file is half written"
    LAWS.get(verb, lambda *_: None)(outcome.result, run)


def reconstruct_law(result: Any, run: OpenRun) -> None:
    observed = run.vi.observed(run.data.test)
    for name, data in result.data.items():
        assert run.vi.fitted.most_probable(result.mean)[name].shape == data.shape == (3, *observed[name].shape[1:])
        assert result.draws[name].shape == (2, *data.shape)


def interpolate_law(result: Any, run: OpenRun) -> None:
    np.testing.assert_allclose(result.weights, [0, 0.5, 1])
    assert all(mean.shape[:2] == (3, 2) for mean in result.means.values())


def traverse_law(result: Any, run: OpenRun) -> None:
    assert run.vi.has_latents is False or (np.diff(result.divergence) <= 0).all()
    for mean in result.means.values():
        moved = np.isfinite(mean.reshape(*mean.shape[:2], -1)).all(-1)
        np.testing.assert_array_equal(moved, np.isfinite(result.values))


def embed_law(result: Any, run: OpenRun) -> None:
    assert result.mean.shape == result.sd.shape == (21, len(result.names))
    assert len(set(result.names)) == len(result.names)
    assert (result.sd >= 0).all()


def impute_law(result: Any, run: OpenRun) -> None:
    observed = run.vi.observed(run.select(Selection(num_data=2)))
    means, classes = run.vi.fitted.most_probable(result.mean), run.vi.fitted.classes
    for name, hole in result.missing.items():
        if name == "seen":  # what not-MIWAE observes of its mask, in which the option hides more
            continue
        np.testing.assert_allclose(means[name][~hole], observed[name][~hole], rtol=1e-12)
        assert (result.sd[name][~hole] == 0).all()
        assert (result.draws[name][:, ~hole] == observed[name][~hole]).all()
        assert name in classes or (result.lower[name] <= result.upper[name]).all()
    assert any(hole.any() for hole in result.missing.values())


def augment_law(result: Any, run: OpenRun) -> None:
    given = run.select(Selection("train", 3))
    assert (result.rows == [0, 0, 1, 1, 2, 2]).all()
    for name, array in given.items():
        assert result.arrays[name].shape == (6, *array.shape[1:])


def outliers_law(result: Any, run: OpenRun) -> None:
    assert sorted(result.order) == list(range(21))
    assert (np.diff(result.log_evidence[result.order]) >= 0).all()


LAWS: dict[str, Callable[[Any, OpenRun], None]] = {
    "reconstruct": reconstruct_law,
    "interpolate": interpolate_law,
    "traverse": traverse_law,
    "embed": embed_law,
    "impute": impute_law,
    "augment": augment_law,
    "outliers": outliers_law,
}
