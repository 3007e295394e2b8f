"""Loggers: what each has written is read back from its own store by its own library."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imsave

from ppl_vae import InputError
from ppl_vae.errors import InputWarning
from ppl_vae.runs.loggers import LOGGERS, Loggers, logger_names
from ppl_vae.runs.loggers.csv import CsvLogger
from tests.helpers.logged import READERS

SETTINGS: dict[str, Any] = {"seed": 3, "guide": "amortized", "model": {"class_path": "vae", "init_args": {"hidden": 8}}}
ROWS = {
    10: {"epoch": 1, "elbo_train": -41.5, "elbo_valid": -40.25},
    20: {"epoch": 2, "elbo_train": -39.5, "elbo_valid": -38.75},
    30: {"epoch": 3, "elbo_train": -38.5, "elbo_valid": -38.0},
}
SUMMARY = {"test": {"log_evidence": -37.5, "log_evidence_se": 0.125, "estimator": "iwae"}, "device": "cpu"}
MODULES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


def named(key: str) -> Any:
    slow = key in ("mlflow", "wandb")  # each takes seconds, for its import or a process of its own
    return pytest.param(key, marks=pytest.mark.slow) if slow else key


@pytest.mark.filterwarnings("default")  # those of other libraries
@pytest.mark.parametrize("key", [named(key) for key in READERS])
def test_a_log_has_settings_rows_results_and_figures_and_a_resumed_fit_goes_on_with_it(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fit is killed after the row of step 20 and before its checkpoint, so that it goes on after step 10."""
    pytest.importorskip(MODULES.get(key, "csv"), reason=f"the extra {key} is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    figure = tmp_path / "elbo.png"
    imsave(figure, np.random.default_rng(0).random((12, 16, 3)))
    folder = tmp_path / "logs"
    with Loggers(key, folder, "first fit") as log:
        log.start(SETTINGS)
        for step in (10, 20):
            log.row(step, ROWS[step])
    with Loggers(key, folder, "first fit") as log:
        log.start(SETTINGS | {"max_epochs": 7}, step=10)
        for step in (20, 30):
            log.row(step, ROWS[step] | {"none": float("nan")})
        log.end(SUMMARY, {"elbo": figure})
    logged = READERS[key](folder)
    assert {name: dict(values) for name, values in logged.rows.items()} == {
        name: {step: ROWS[step][name] for step in ROWS} for name in ROWS[10]
    }
    assert all(len(values) == len(ROWS) for values in logged.rows.values())
    expected = {"seed": "3", "guide": "amortized", "model.class_path": "vae", "model.init_args.hidden": "8"}
    assert logged.settings == expected | {"max_epochs": "7"}
    assert logged.results == {"test.log_evidence": -37.5, "test.log_evidence_se": 0.125}
    assert logged.figures == (set() if key == "csv" else {"elbo"})  # a figure is a file of the run already


def test_every_logger_is_read_back() -> None:
    assert READERS.keys() == LOGGERS.keys()


def test_names_are_checked() -> None:
    assert logger_names(" csv,TensorBoard,csv") == ("csv", "tensorboard")
    with pytest.raises(InputError, match=r"--logger 'tensorbord' is unknown; did you mean 'tensorboard'\?"):
        Loggers("csv,tensorbord")


@pytest.mark.parametrize("key", MODULES)
def test_a_library_that_is_not_installed_is_named_in_a_line(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == key or name == "torch.utils.tensorboard"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, key, None)
    with pytest.raises(InputError, match=rf"--logger {key} needs {key}: pip install 'ppl-vae\[{key}\]'"):
        Loggers(key)


def test_a_logger_that_fails_later_is_left_out_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(CsvLogger):
        key = "full"

        def row(self, step: int, numbers: Any) -> None:
            raise OSError("no space left")

    monkeypatch.setitem(LOGGERS, "full", Full)  # type: ignore[arg-type]
    with Loggers("full,csv", tmp_path) as log:
        log.start(SETTINGS)
        with pytest.warns(InputWarning, match=r"the logger full failed \(row: no space left\)"):
            log.row(10, ROWS[10])
        log.row(20, ROWS[20])
        log.end(SUMMARY)
    assert READERS["csv"](tmp_path).rows["epoch"] == [(10, 1.0), (20, 2.0)]


def test_a_logger_that_cannot_begin_stops_the_fit(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(InputError, match="--logger csv cannot begin"), Loggers("csv", tmp_path / "logs") as log:
        log.start(SETTINGS)
