"""A fit as one file, and programs that are given by their names."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pandas
import pytest
import yaml
from safetensors.torch import load_file
from sklearn.base import clone

from ppl_vae import InputError, VariationalInference, load
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.program import seeded

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
OPTIONS = {"max_epochs": 2, "num_samples": 50}


def test_a_name_is_a_program_of_the_size_of_the_data(tmp_path: Path) -> None:
    vi = VariationalInference("factor_analysis", **OPTIONS).fit(X)
    assert vi.sample(4).shape == (4, 3)
    scores = vi.score_samples(X)
    path = tmp_path / "fit.safetensors"
    vi.save(path)
    loaded = load(path)
    np.testing.assert_array_equal(loaded.score_samples(X), scores)
    assert loaded.get_params()["max_epochs"] == 2
    for other in (copy.deepcopy(vi), pickle.loads(pickle.dumps(vi))):
        np.testing.assert_array_equal(other.score_samples(X), scores)
    np.testing.assert_array_equal(clone(vi).fit(X).score_samples(X), scores)
    assert vi.fit(np.hstack([X, X])).sample(2).shape == (2, 6)  # data of another size are another program
    table = pandas.DataFrame({"height": X[:, 0], "city": ["Oslo", "Rome"] * 20})
    assert VariationalInference("table_vae", **OPTIONS).fit(table).sample(3).shape == (3, 2)


def test_an_object_is_given_again_and_holes_are_kept(tmp_path: Path) -> None:
    holes = X.copy()
    holes[::5, 1] = np.nan
    with seeded(0):
        program = FactorAnalysis(data_dim=3, latent_dim=1)
    vi = VariationalInference(program, **OPTIONS).fit(holes)
    path = tmp_path / "fit.safetensors"
    vi.save(path)
    with pytest.raises(InputError, match=r"load\(path, program=FactorAnalysis\(...\)\)"):
        load(path)
    loaded = load(path, program=FactorAnalysis(data_dim=3, latent_dim=1))
    np.testing.assert_array_equal(loaded.score_samples(holes), vi.score_samples(holes))
    with pytest.raises(InputError, match="another model than FactorAnalysis"):
        load(path, program=FactorAnalysis(data_dim=3, latent_dim=2))


def test_what_is_no_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fit.safetensors"
    vi = VariationalInference("factor_analysis", **OPTIONS).fit(X)
    vi.save_checkpoint(path)
    with pytest.raises(InputError, match="is a checkpoint of a run: load its folder"):
        load(path)
    vi.save(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        load(path)


def test_a_shared_folder_has_plain_names_and_loads(tmp_path: Path) -> None:
    vi = VariationalInference("factor_analysis", **OPTIONS).fit(X)
    evaluation = vi.evaluate(X)
    vi.share(tmp_path / "model", evaluation)
    np.testing.assert_array_equal(load(tmp_path / "model").score_samples(X), vi.score_samples(X))
    parameters = load_file(tmp_path / "model" / "model.safetensors")
    own = vi.program_.module.state_dict()
    assert set(parameters) >= {"decoder.linear.weight"}
    np.testing.assert_array_equal(
        parameters["decoder.linear.weight"],
        next(value.detach() for name, value in own.items() if name.endswith("decoder.linear.weight")),
    )
    card = (tmp_path / "model" / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "ppl_vae"
    assert str(evaluation) in card
    assert json.loads((tmp_path / "model" / "config.json").read_text())["shapes"] == {"x": [3]}
    (tmp_path / "model" / "README.md").write_text("mine")
    vi.share(tmp_path / "model")
    assert (tmp_path / "model" / "README.md").read_text() == "mine"
    with pytest.raises(InputError, match="is a file: name a folder"):
        vi.share(tmp_path / "model" / "README.md")
