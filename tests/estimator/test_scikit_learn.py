"""The estimator under scikit-learn: clones, recipes, pickles, pipelines, names of columns, and its own checks."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from torch import Tensor, nn

from ppl_vae import InputError, Program, VariationalInference, load
from ppl_vae.cli.command import run_verb
from ppl_vae.data import table_columns
from ppl_vae.errors import InputWarning
from ppl_vae.models.table_vae import TableVAE
from ppl_vae.models.vae import VAE
from ppl_vae.program import seeded
from ppl_vae.runs import NamedProgram, program_class
from ppl_vae.uses import impute
from tests.helpers.runs import run_without_figures
from tests.helpers.scenarios import normal

OPTIONS: dict[str, Any] = {"max_epochs": 1, "batch_size": 16, "num_samples": 20, "compile": "off", "patience": None}
SMALL = partial(VAE, data_dim=3, latent_dim=2, hidden=(4,), likelihood="gaussian")
X = normal(36, 3).numpy()


def small(program: Any, **options: Any) -> VariationalInference:
    """Return an estimator of a program that costs little."""
    return VariationalInference(program, **OPTIONS | options)


def built(make: Callable[[], Any], seed: int = 0) -> Any:
    """Return a program that was built under a seed."""
    with seeded(seed):
        return make()


class Hidden:
    """A program whose network, with a running mean, lies where ``nn.Module`` does not look for it."""

    def __init__(self) -> None:
        self.nets = {"mean": nn.Sequential(nn.Linear(1, 3), nn.BatchNorm1d(3))}

    def model(self, x: Tensor) -> None:
        net = pyro.module("mean", self.nets["mean"])
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(net(z.reshape(-1, 1)).reshape(*z.shape[:-1], 3), 1.0).to_event(1), obs=x)


class Line:
    """A latent of which every column is a multiple, for data of any number of columns."""

    def model(self, x: Tensor) -> None:
        size = x.shape[-1]
        slope = pyro.param("slope", lambda: 0.1 * torch.ones(size, dtype=x.dtype))
        scale = pyro.param("scale", lambda: torch.ones(size, dtype=x.dtype), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(slope * z, scale).to_event(1), obs=x)


# ------------------------------------------------------------------------------------------------- clones


@pytest.mark.parametrize(
    "make",
    [
        lambda: built(SMALL),
        pytest.param(lambda: Program(built(SMALL)), marks=pytest.mark.slow),
        pytest.param(lambda: (lambda module: (module.model, module.guide))(built(SMALL)), marks=pytest.mark.slow),
        lambda: built(Hidden),
        lambda: SMALL,
    ],
    ids=["object", "Program", "bound methods", "modules in a dict", "recipe"],
)
def test_a_clone_of_a_fit_starts_where_its_program_started(make: Callable[[], Any]) -> None:
    fresh = cross_val_score(small(make()), X, cv=2)
    fitted = small(make(), max_epochs=30).fit(X)
    trained = fitted.score_samples(X)
    once = clone(fitted).set_params(max_epochs=1)
    np.testing.assert_array_equal(cross_val_score(once, X, cv=2), fresh)
    once.fit(X)
    np.testing.assert_array_equal(cross_val_score(clone(once), X, cv=2), fresh)
    np.testing.assert_array_equal(fitted.score_samples(X), trained)
    assert fitted.score(X) > fresh.mean()


def test_a_clone_has_the_precision_of_the_program_and_not_of_the_fit() -> None:
    fitted = small(built(SMALL), precision="64-true").fit(X)
    assert clone(fitted).program.decoder[0].weight.dtype == torch.float32


def test_a_search_starts_every_fit_anew() -> None:
    alone = cross_val_score(small(built(SMALL), learning_rate=0.01), X, cv=2).mean()
    search = GridSearchCV(small(built(SMALL), max_epochs=1), {"learning_rate": [0.1, 0.01]}, cv=2).fit(X)
    assert search.cv_results_["mean_test_score"][1] == alone


def test_functions_that_share_modules_have_no_clone() -> None:
    network = nn.Linear(1, 3)

    def model(x: Tensor) -> None:
        pyro.module("network", network)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(network(z), 1.0).to_event(1), obs=x)

    vi = small(model)
    for _ in range(2):
        with pytest.raises(InputError, match="model is a function that uses modules, which a clone would share"):
            clone(vi)
        vi.fit(X)


def test_a_second_fit_goes_on_from_the_first() -> None:
    twice = small(built(SMALL), schedule="constant", validation_fraction=0)
    first = twice.fit(X).score(X)
    assert twice.fit(X).score(X) > first


# ------------------------------------------------------------------------------------------------- recipes


def test_a_recipe_is_built_under_the_seed() -> None:
    state = torch.get_rng_state()
    scores = [
        small(recipe, seed=seed).fit(X).score(X) for recipe, seed in ((SMALL, 0), (lambda: SMALL(), 0), (SMALL, 1))
    ]
    assert torch.equal(torch.get_rng_state(), state)
    assert scores[0] == scores[1] == small(built(SMALL)).fit(X).score(X)
    assert scores[0] != scores[2]
    again = small(SMALL).fit(X).set_params(seed=1)
    assert again.fit(X).score(X) == scores[2]


def test_a_program_has_a_name() -> None:
    assert type(small("factor_analysis").origin.program).__name__ == "FactorAnalysis"
    with pytest.raises(InputError, match="unknown model 'vea'; did you mean 'vae'"):
        small("vea").fit(X)
    with pytest.raises(InputError, match=r"Linear cannot be built without further arguments, .*partial\(Linear"):
        small(nn.Linear).fit(X)


# ------------------------------------------------------------------------------------------------- copies of a fit

COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda vi: pickle.loads(pickle.dumps(vi)),
    "deepcopy": copy.deepcopy,
}


def by_joblib(vi: Any) -> Any:
    """Return what joblib reads of what it has written."""
    file = io.BytesIO()
    joblib.dump(vi, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize("guide", ["amortized", "per-sample", "semi-amortized"])
def test_a_copy_of_a_fit_gives_its_numbers(guide: str) -> None:
    vi = small(built(SMALL), guide=guide, local_steps=2, inference_steps=3).fit(pd.DataFrame(X, columns=list("abc")))
    copies = [make(vi) for make in (*COPIES.values(), by_joblib)]
    for other in copies:
        np.testing.assert_array_equal(other.score_samples(X), vi.score_samples(X))
        np.testing.assert_array_equal(other.feature_names_in_, ["a", "b", "c"])
        assert other.program is not vi.program
    before = vi.score_samples(X)
    copies[0].fit(X)
    np.testing.assert_array_equal(vi.score_samples(X), before)
    fresh = clone(copies[1]).fit(X).score(X)
    assert fresh == clone(vi).fit(X).score(X)


def test_a_derived_encoder_and_parameters_by_name_are_copied() -> None:
    vi = small(Line()).fit(X)
    for make in COPIES.values():
        np.testing.assert_array_equal(make(vi).transform(X), vi.transform(X))


FILE = '''\
import pyro
import pyro.distributions as dist
import torch


class Mine(torch.nn.Module):
    def __init__(self, size: int = 3, hidden=[2], widths: tuple[int, ...] = (2,), other=(2,)):
        super().__init__()
        self.kinds = [type(value).__name__ for value in (hidden, widths, other)]
        self.decoder = torch.nn.Linear(1, size)

    def model(self, images):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(images)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=images)


def make(size: int = 3, hidden=[2], widths: tuple[int, ...] = (2,), other=(2,)):
    """Make a program."""
    return Mine(size, hidden, widths, other)


def nothing(size: int = 3):
    return size


def leave(size: int = 3):
    raise SystemExit(3)
'''


@pytest.fixture
def program_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file of programs, and data beside it; the process is in their folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE)
    np.savez(tmp_path / "data.npz", x=X)
    return tmp_path / "mine.py"


def test_an_error_of_the_program_in_training_has_its_traceback_and_names_what_was_saved(program_file: Path) -> None:
    raising = FILE.replace(
        'pyro.module("decoder", self.decoder)',
        'pyro.module("decoder", self.decoder); self.runs = getattr(self, "runs", 0) + self.training\n'
        '        if self.runs > 45: open("/absent")',
    )
    program_file.write_text(raising)
    options = ["--data", "data.npz", "--model", "mine.py:Mine", "--num-samples", "5", "--compile", "off"]
    with pytest.raises(FileNotFoundError, match="/absent") as raised:
        run_without_figures("fit", [*options, "--batch-size", "4", "--max-epochs", "20", "--output", "run"])
    (note,) = raised.value.__notes__
    done = len(Path("run", "metrics.jsonl").read_text().splitlines())
    assert done > 0
    assert f"The program Mine raised this error in epoch {done + 1} of its training" in note
    assert f"The state after epoch {done} is in run/checkpoint.safetensors: mend the program" in note
    program_file.write_text(FILE)
    assert (
        run_without_figures("fit", ["--resume", "--output", "run", "--accept-changes", "--max-epochs", f"{done + 2}"])
        == 0
    )
    assert load("run").score(X) < 0
    assert len(Path("run", "metrics.jsonl").read_text().splitlines()) == done + 2


def test_a_program_of_a_file_is_pickled_by_its_name(program_file: Path) -> None:
    vi = small(NamedProgram(f"{program_file}:Mine", {"size": 3})).fit(X)
    other = pickle.loads(pickle.dumps(vi))
    np.testing.assert_array_equal(other.score_samples(X), vi.score_samples(X))
    loose = small(program_class(f"{program_file}:Mine")()).fit(X)
    np.testing.assert_array_equal(copy.deepcopy(loose).score_samples(X), loose.score_samples(X))
    with pytest.raises(InputError, match="a pickle cannot hold Mine, whose class is in a file that is no module"):
        pickle.dumps(loose)


# --------------------------------------------------------------------------------------------- the command line


@pytest.mark.parametrize(("name", "value"), [("Mine", "[3,4]"), ("make", "[3,4]"), ("Mine", "[2]"), ("make", "")])
def test_a_list_arrives_as_a_list_in_a_fit_and_when_it_is_loaded(program_file: Path, name: str, value: str) -> None:
    lists = [part for option in ("hidden", "widths", "other") for part in (f"--model.{option}", value) if value]
    kinds = ["list", "tuple", "list" if value else "tuple"]
    options = ["--data", "data.npz", "--model", f"mine.py:{name}", "--max-epochs", "1", "--num-samples", "5", *lists]
    assert run_without_figures("fit", [*options, "--output", "run"]) == 0
    vi = load("run")
    assert vi.origin.program.kinds == kinds
    assert vi.template_[0].shape[1] == 3
    for other in (clone(vi), clone(clone(vi)), pickle.loads(pickle.dumps(vi)), clone(pickle.loads(pickle.dumps(vi)))):
        assert other.program.kinds == kinds
    for other in (copy.copy(vi), copy.deepcopy(vi), pickle.loads(pickle.dumps(vi))):
        np.testing.assert_array_equal(other.score_samples(X), vi.score_samples(X))
    assert copy.copy(vi).program is vi.program


def test_the_position_of_an_argument_with_another_name_decides(
    program_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", "data.npz", "--model", "mine.py:Mine", "--max-epochs", "1", "--num-samples", "5"]
    assert run_without_figures("fit", [*options, "--inference-steps", "5", "--output", "run"]) == 0
    sentence = "model(images) of Mine takes the array 'x' as 'images': its position decides"
    assert capsys.readouterr().out.count(sentence) == 1
    by_x = load("run")
    by_name = small(by_x.program, inference_steps=5).fit(X)
    with pytest.warns(InputWarning, match="takes the array 'x' as 'images'"):
        assert small(by_x.program).fit({"x": X}).arguments_ == ("x",)
    assert (by_x.arguments_, by_name.arguments_) == (("x",), ("images",))
    holes = np.where(np.arange(3) == 1, np.nan, X)
    for vi in (by_x, by_name):
        scores = [vi.score_samples(data) for data in (X, {"x": X}, {"images": X})]
        filled = [impute(vi, data, num_samples=5).mean["x"] for data in (holes, {"x": holes}, {"images": holes})]
        for numbers in (scores, filled):
            np.testing.assert_array_equal(numbers[0], numbers[1])
            np.testing.assert_array_equal(numbers[0], numbers[2])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "nothing builds an object of type int, which has no model(x)"),
        ("leave", "leave cannot be made with {'size': 3}, SystemExit: 3"),
        ("absent", "no class 'absent' in"),
    ],
)
def test_what_is_no_program_is_refused(
    program_file: Path, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("fit", ["--data", "data.npz", "--model", f"mine.py:{name}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


# ------------------------------------------------------------------------------------ pipelines and names of columns


def test_a_pipeline_passes_y() -> None:
    pipeline = make_pipeline(StandardScaler(), small(built(SMALL))).set_output(transform="pandas")
    with pytest.warns(InputWarning, match="y is left out: the model takes 'x' alone"):
        pipeline.fit(X, np.zeros(36))
    places = pipeline.transform(X)
    assert list(places.columns) == ["z[0]", "z[1]"]
    np.testing.assert_array_equal(pipeline.get_feature_names_out(), ["z[0]", "z[1]"])
    again = make_pipeline(StandardScaler(), small(built(SMALL)))
    np.testing.assert_array_equal(again.fit_transform(X), places.to_numpy())
    with pytest.raises(InputError, match="3 arrays given, the model takes 1: x"):
        small(built(SMALL)).fit(X, X, X)


def test_columns_are_matched_by_name() -> None:
    frame = pd.DataFrame(X, columns=list("abc"))
    vi = small(built(SMALL)).fit(frame, validation=frame[["c", "b", "a"]])
    assert vi.n_features_in_ == 3
    np.testing.assert_array_equal(vi.feature_names_in_, ["a", "b", "c"])
    right = vi.score_samples(X)
    np.testing.assert_array_equal(vi.score_samples(frame[["c", "a", "b"]]), right)
    np.testing.assert_array_equal(vi.score_samples({"x": frame[["c", "a", "b"]]}), right)
    assert abs(vi.score(X[:, [2, 0, 1]]) - vi.score(X)) > 1e-6  # an array has its order alone
    with pytest.raises(InputError, match="the data lack the column 'c' of the fit; known: a, b, d"):
        vi.transform(frame.rename(columns={"c": "d"}))
    with pytest.raises(InputError, match="the column 'd' was not in the fit"):
        vi.posterior(frame.assign(d=0.0), num_samples=2)
    vi.fit(X)
    assert not hasattr(vi, "feature_names_in_")


def test_scores_of_a_frame_are_a_frame_if_that_is_asked_for() -> None:
    frame = pd.DataFrame(X, columns=list("abc"), index=[f"row {i}" for i in range(len(X))])
    vi = small(built(SMALL)).fit(frame)
    evidence, plain = vi.evidence(frame), vi.score_samples(frame)
    assert isinstance(plain, np.ndarray)
    scores = vi.set_output(transform="pandas").score_samples(frame)
    assert scores.index.equals(frame.index)
    assert list(scores) == ["log_evidence", "mcse", "doubtful"]
    np.testing.assert_array_equal(scores["log_evidence"], plain)
    np.testing.assert_array_equal(scores["mcse"], evidence.mcse)
    assert vi.score(frame) == pytest.approx(plain.mean(), rel=1e-6)
    assert vi.set_output(transform="polars").score_samples(X).columns == list(scores)


EXCEPTIONS = {
    "check_fit_idempotent": "a second fit goes on from the first; a clone starts anew",
    "check_transformer_general": "it fits one object twice, and a second fit goes on from the first",
    "check_transformer_data_not_an_array": "it fits one object twice, and a second fit goes on from the first",
    "check_pipeline_consistency": "it fits one object twice, and a second fit goes on from the first",
    "check_methods_sample_order_invariance": "draws of a datum depend on its place, so that estimates differ by their "
    "Monte Carlo error",
    "check_methods_subset_invariance": "draws of a datum depend on its batch, so that estimates differ by their Monte "
    "Carlo error",
    "check_transformer_preserve_dtypes": "the precision of the program decides, and not that of the data",
    "check_complex_data": "refused in words of our own",
    "check_estimators_empty_data_messages": "refused in words of our own",
    "check_estimators_nan_inf": "refused in words of our own",
    "check_estimator_sparse_tag": "refused in words of our own",
    "check_estimator_sparse_array": "refused in words of our own",
    "check_estimator_sparse_matrix": "refused in words of our own",
    "check_fit2d_predict1d": "refused in words of our own",
    "check_n_features_in_after_fitting": "refused in words of our own",
    "check_dtype_object": "an array of objects is refused, even if they are numbers",
}


def test_the_checks_of_scikit_learn_pass_but_for_those_that_are_explained() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # y is left out
        results = check_estimator(small(Line()), expected_failed_checks=EXCEPTIONS, on_fail=None, on_skip=None)
    assert {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"} == {}
    needed = {result["check_name"] for result in results if result["status"] == "xfail"}
    assert needed == set(EXCEPTIONS)


def test_a_frame_of_any_library_comes_out_as_it_came_in() -> None:
    random = np.random.default_rng(0)
    frame = pl.DataFrame({"city": random.choice(["Oslo", "Rome", "Ulm"], 40), "height": random.normal(size=40)})
    program = TableVAE(table_columns(frame), latent_dim=2, hidden=(4,))
    vi = VariationalInference(program, max_epochs=1, num_samples=5, inference_steps=5).fit(frame)
    assert vi.feature_names_in_.tolist() == ["city", "height"]
    latents = vi.set_output(transform="polars").transform(frame)
    assert (type(latents), latents.columns) == (pl.DataFrame, ["z[0]", "z[1]"])
    alone = frame.filter(pl.col("city") == "Ulm")  # its only category has the code 2 of the fit
    codes = {"x": np.stack([np.full(len(alone), 2.0), alone["height"].to_numpy()], 1)}
    np.testing.assert_array_equal(vi.score_samples(alone), vi.score_samples(codes))
    holes = alone.with_columns(city=pl.when(pl.int_range(pl.len()) > 0).then(pl.col("city")))
    filled = impute(vi, holes, num_samples=10)
    completed = vi.to_frame(filled.completed, "polars")
    (city,) = filled.plot().axes
    assert (city.get_title(), [text.get_text() for text in city.get_yticklabels()]) == ("city", ["Oslo", "Rome", "Ulm"])
    assert [bar.get_width() for bar in city.patches[3:]] == pytest.approx(filled.probabilities["x"][0, 0].tolist())
    assert completed["city"].to_list()[1:] == ["Ulm"] * (len(alone) - 1)
    assert completed["city"][0] in ("Oslo", "Rome", "Ulm")
    np.testing.assert_allclose(completed["height"], alone["height"])
    assert set(vi.to_frame(vi.sample(20))["city"]) <= {"Oslo", "Rome", "Ulm"}
