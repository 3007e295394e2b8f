"""Every verb of the uses, on every program of the gallery and on programs of unusual names, shapes and sites."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ppl_vae import InputError
from ppl_vae.cli.opened import OpenRun
from ppl_vae.explore import ExploredSpace, Explorer, Views
from ppl_vae.program import draw_latents, draw_prior
from ppl_vae.uses.description import USES
from tests.helpers.gallery import with_slow
from tests.helpers.uses import CASES, check_use, open_case

OPTIONS: dict[str, dict[str, Any]] = {
    "generate": {"num_data": 2, "what": "mean,sample"},
    "reconstruct": {"num_data": 3, "num_draws": 2},
    "interpolate": {"num_pairs": 2, "num_steps": 3},
    "traverse": {"num_dimensions": 3, "num_steps": 3},
    "manifold": {"num_steps": 3},
    "latents": {"num_posteriors": 2},
    "embed": {},
    "impute": {"hide": 0.4, "num_data": 2, "num_samples": 40},
    "augment": {"num_data": 3, "copies": 2},
    "outliers": {"num_samples": 20},
}


LAID_OUT = {"autoencoder", "deep_markov_model", "semi_supervised_vae", "unusual"}
"""Programs whose figures are laid out, in which nothing may fail or warn."""
DRAWN = {"conv_vae", "survey"}
"""Programs whose figures are drawn: those of every other program are of the same kinds, and are only made."""


LIKE_OTHERS = ("count_vae, inflated", "flow_vae", "gmvae, semi-amortized", "hierarchical_vae, ladder")
"""Further programs whose uses are like those of others."""


@pytest.fixture(scope="module", params=with_slow(CASES, LIKE_OTHERS))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OpenRun:
    return open_case(request.param, tmp_path_factory.mktemp("run"))


def draw_dots(figure: Figure, path: Path, *, format: str, **options: Any) -> None:
    """Write an image that is not blank instead of a figure."""
    imsave(path, np.eye(4), format=format)


def lay_out(figure: Figure, path: Path, *, format: str, **options: Any) -> None:
    """Lay a figure out, and write an image that is not blank instead of it."""
    figure.draw_without_rendering()
    draw_dots(figure, path, format=format)


def test_there_are_options_for_every_use() -> None:
    assert set(OPTIONS) == set(USES)


@pytest.mark.parametrize("verb", OPTIONS)
def test_every_verb_on_every_program(verb: str, case: OpenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    if case.data.name in LAID_OUT:
        monkeypatch.setattr(Figure, "savefig", lay_out)
    elif case.data.name not in DRAWN:
        monkeypatch.setattr(Figure, "savefig", draw_dots)
        monkeypatch.setattr(ConstrainedLayoutEngine, "execute", lambda *_: None)
    check_use(verb, case, OPTIONS[verb])


def test_every_program_with_a_continuous_latent_is_explored(case: OpenRun) -> None:
    structure = case.vi.program_.structure
    if case.vi.generates and not set(structure.latents) - set(structure.discrete):
        with pytest.raises(InputError, match=r"no continuous latent|no latents"):
            ExploredSpace(case.vi, case.data.test)
        return
    space = ExploredSpace(case.vi, case.data.test)
    explorer = Explorer(space, Views(space, case.data), case.data.name, [f"row {row}" for row in range(21)], "test")
    point = {axis["name"]: 0 if axis["values"] else axis["span"][1] for axis in explorer.content["coordinates"]}
    conditions = explorer.datum(3)["conditions"]
    answers = [explorer.decode({"row": 3, "point": at, "conditions": conditions}) for at in ({}, point)]
    assert answers[0]["views"] != answers[1]["views"]
    with space.program.running(seed=3, training=False):
        alone = draw_latents(space.program, space.batch, 2)
    with space.program.running(seed=3, training=False):
        with_data = space.program.posterior(space.batch, 2).latents
    assert all((alone[name] == with_data[name]).all() for name in space.program.structure.latents)
    program = space.vi.program_
    with program.running(seed=3, training=False):
        alone = draw_prior(program, space.data, 2)
    with program.running(seed=3, training=False):
        with_data = program.prior(space.data, 2).latents
    assert all((alone[name] == with_data[name]).all() for name in program.structure.latents)
    json.dumps([explorer.content, explorer.datum(20), answers], allow_nan=False)
    assert len({len(views) for views in (explorer.datum(3)["views"], *(answer["views"] for answer in answers))}) == 1
