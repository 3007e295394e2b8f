"""A run whose program, data or folder is not what it was: a warning or a refusal, and never another number."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppl_vae import load
from ppl_vae.cli import fit, main
from ppl_vae.cli.command import signals_stop
from ppl_vae.errors import ChangedSinceFit, InputError
from ppl_vae.estimator import load_data
from ppl_vae.runs import Run, read_checkpoint
from ppl_vae.runs.lock import locked
from tests.helpers.messages import refusal
from tests.helpers.own_programs import OWN_PROGRAM
from tests.helpers.runs import run_without_figures

QUICK = ["--model", "mine.py", "--data", "my.npz", "--max-epochs", "2", "--num-samples", "10"]
HELPED = OWN_PROGRAM.replace("import torch\n", "import torch\nfrom helper import SCALE\n", 1)
HELPED = HELPED.replace("self.scale)", "SCALE)")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fitted")
    x = np.random.default_rng(0).normal(size=(60, 5)).astype("float32")
    np.savez(folder / "my.npz", x_train=x[:40], x_valid=x[40:50], x_test=x[50:])
    (folder / "mine.py").write_text(HELPED)
    (folder / "helper.py").write_text("SCALE = 0.5\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_without_figures("fit", [*QUICK, "--output", "run"]) == 0
    return folder


@pytest.fixture
def here(fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder, whose configuration names the files of the copy."""
    folder = tmp_path / "here"
    shutil.copytree(fitted, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(folder)
    config = folder / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(fitted), str(folder)))
    return folder


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


PROGRAMS = {
    "the scale in a helper": (replaced("helper.py", "0.5", "0.4"), "helper.py has changed"),
    "the prior": (replaced("mine.py", "1.0).to_event", "2.0).to_event"), "mine.py has changed"),
    "the family of the prior": (replaced("mine.py", "dist.Normal(torch.zeros", "dist.Laplace(torch.zeros"), "mine.py"),
    "the likelihood": (replaced("mine.py", "Normal(self.dec", "Laplace(self.dec"), "mine.py has changed"),
    "an argument": (replaced("run/config.yaml", "scale: 0.5", "scale: 0.25"), "model.scale is 0.25, it was 0.5"),
}


@pytest.mark.parametrize("change", PROGRAMS)
def test_a_changed_program_is_a_warning_at_load_and_refused_by_resume(
    change: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load("run")  # without a warning
    act, part = PROGRAMS[change]
    act(here)
    with pytest.warns(ChangedSinceFit) as warned:
        load("run")
    assert any(part in str(warning.message) for warning in warned)
    assert run_without_figures("evaluate", ["run"]) == 0
    assert f"warning: run: {'config.yaml' if change == 'an argument' else 'the source'}" in capsys.readouterr().err
    before = {path: path.read_bytes() for path in (here / "run").rglob("*") if path.is_file()}
    assert run_without_figures("fit", ["--resume", "--output", "run", "--max-epochs", "3"]) == 2
    assert part in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (here / "run").rglob("*") if path.is_file()} == before
    options = ["--resume", "--output", "run", "--max-epochs", "3", "--accept-changes"]
    assert run_without_figures("fit", options) == 0
    load("run")  # the run is now one of the changed program


def test_comments_and_moved_folders_are_no_change(here: Path) -> None:
    replaced("mine.py", "class Mine", "# A comment.\nclass Mine")(here)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load("run")
    assert not [warning for warning in caught if issubclass(warning.category, ChangedSinceFit)]
    assert run_without_figures("fit", ["--resume", "--output", "run", "--max-epochs", "3"]) == 0


def rows(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        arrays = dict(np.load(folder / "my.npz"))
        change(arrays)
        np.savez(folder / "my.npz", **arrays)

    return act


DATA = {
    "a value of train": (rows(lambda a: a["x_train"].__setitem__((30, 1), 9.0)), "the train data have changed"),
    "a value of test": (rows(lambda a: a["x_test"].__setitem__((3, 1), 9.0)), "the test data have changed"),
    "a row more": (rows(lambda a: a.update(x_valid=a["x_train"][:11])), "'x' has 11 rows for 10"),
}


@pytest.mark.parametrize("change", DATA)
def test_changed_data_are_reported_and_refused_by_resume(
    change: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_data("run")  # without a warning
    act, part = DATA[change]
    act(here)
    for verb in ("evaluate", "reconstruct"):
        assert run_without_figures(verb, ["run"]) == 0
        assert part in capsys.readouterr().err
    for options in ([], ["--accept-changes"]):
        assert run_without_figures("fit", ["--resume", "--output", "run", "--max-epochs", "3", *options]) == 2
        assert part in capsys.readouterr().err


def test_a_checkpoint_of_another_fit_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same program with another argument: nothing in the parameters shows it."""
    assert run_without_figures("fit", [*QUICK, "--model.scale", "0.25", "--output", "other"]) == 0
    shutil.copy("other/checkpoint.safetensors", "run/checkpoint.safetensors")
    assert "is a checkpoint of another fit" in refusal(load, "run")
    assert run_without_figures("fit", ["--resume", "--output", "run"]) == 2
    assert "is a checkpoint of another fit" in capsys.readouterr().err


def test_programs_with_helpers_of_one_name_have_their_own(here: Path) -> None:
    other = here / "other"
    other.mkdir()
    (other / "mine.py").write_text(HELPED.replace("import torch\n", "import torch\nimport helper\n", 1))
    (other / "helper.py").write_text("SCALE = 0.125\n")
    options = ["--model", "other/mine.py", *QUICK[2:], "--output", "second"]
    assert run_without_figures("fit", options) == 0
    x = np.load("my.npz")["x_test"]
    alone = load("second").score(x)
    first, second = load("run"), load("second")
    assert second.score(x) == alone
    assert abs(first.score(x) - alone) > 1
    assert type(first.program).__module__ != type(second.program).__module__
    assert not [name for name in sys.modules if name == "helper"]


class TestTrust:
    """A program file that a run folder names is executed only if it is the user's own."""

    SPY = "import pathlib\npathlib.Path('{}').write_text('executed')\n"

    @pytest.fixture
    def stranger(self, here: Path) -> Path:
        shutil.move(here / "mine.py", here / "run" / "mine.py")
        shutil.move(here / "helper.py", here / "run" / "helper.py")
        replaced("run/config.yaml", f"{here}/mine.py", f"{here}/run/mine.py")(here)
        path = here / "run" / "mine.py"
        path.write_text(self.SPY.format(here / "spy") + path.read_text())
        return here

    def test_a_program_inside_the_run_folder(self, stranger: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for verb, args in {
            "evaluate": ["run"],
            "generate": ["run"],
            "compare": ["run", "run/../run/."],
            "fit": ["--resume", "--output", "run"],
            "report": ["run"],
        }.items():
            assert run_without_figures(verb, args) == (0 if verb == "report" else 2)
            err = capsys.readouterr().err
            assert verb in ("report", "compare") or "lies in the run folder run, and would be executed" in err
        assert main(["fit", "--config", "run/config.yaml", "--help"]) == 0
        assert not (stranger / "spy").exists()
        with pytest.warns(ChangedSinceFit):
            load("run", trust=True)
        assert (stranger / "spy").exists()
        assert run_without_figures("evaluate", ["run", "--trust"]) == 0, capsys.readouterr().err

    def test_a_program_outside_the_working_tree(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (here / "elsewhere").mkdir()
        monkeypatch.chdir(here / "elsewhere")
        with pytest.raises(InputError, match="lies outside the working tree"):
            load("../run")
        (here / ".git").mkdir()
        load("../run")

    def test_help_executes_nothing(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (here / "mine.py").write_text(self.SPY.format(here / "spy") + OWN_PROGRAM)
        for args in (["--help"], ["--model", "mine.py", "--help"], ["--config", "run/config.yaml", "--help"]):
            assert main(["fit", *args]) == 0
        assert "--model.width N" in capsys.readouterr().out  # read from the source
        assert not (here / "spy").exists()


@contextmanager
def held(folder: Path, *, alone: bool) -> Iterator[None]:
    """Let another process, a fork of this one, hold the lock of a folder inside the block, and kill it at the end."""
    reads, writes = os.pipe()
    other = os.fork()
    if other == 0:  # no failure may leave this block, or two processes would run the other tests
        try:
            with locked(folder, alone=alone):
                os.write(writes, b"locked")
                time.sleep(600)
        finally:
            os._exit(1)
    os.close(writes)
    try:
        assert os.read(reads, 6) == b"locked"
        yield
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)
        os.close(reads)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("alone", [True, False])
def test_a_folder_has_one_fit_at_a_time(alone: bool, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_checkpoint(here / "run" / "checkpoint.safetensors")[1]
    with held(here / "run", alone=alone):
        for args in (["--resume", "--output", "run"], [*QUICK, "--overwrite", "--output", "run"]):
            assert run_without_figures("fit", args) == 2
            err = capsys.readouterr().err
            assert err == "error: another process works on the run run: wait until it ends, or name another folder\n"
        assert run_without_figures("evaluate", ["run"]) == (2 if alone else 0)
        assert ("another process fits the run run" in capsys.readouterr().err) == alone
        assert read_checkpoint(here / "run" / "checkpoint.safetensors")[1] == before
    # The lock of a process that is killed is free.
    assert run_without_figures("fit", ["--resume", "--output", "run", "--max-epochs", "3"]) == 0


def test_a_folder_that_another_fit_makes_in_the_meantime_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both find no folder at first; the other one has made it and has not written into it yet."""
    prepare = fit.prepare
    with ExitStack() as other:

        def prepare_beside_another(options: fit.Options, run: Run) -> Any:
            other.enter_context(Run("new").locked())
            return prepare(options, run)

        monkeypatch.setattr(fit, "prepare", prepare_beside_another)
        assert run_without_figures("fit", [*QUICK, "--output", "new"]) == 2
        assert capsys.readouterr().err.startswith("error: another process works on the run new: wait until it ends")
        assert not list(Path("new").iterdir())


def test_a_signal_that_python_drops_stops_a_command_all_the_same() -> None:
    class Noisy:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    def work() -> None:
        Noisy()
        time.sleep(5)

    with pytest.raises(KeyboardInterrupt), signals_stop():
        work()


def test_what_a_killed_process_left_is_removed_by_the_next(here: Path) -> None:
    for name in (".checkpoint.safetensors.abcd.part", "uses/.embed.npz.abcd.part", "figures/.bound.png.abcd.part"):
        (here / "run" / name).parent.mkdir(exist_ok=True)
        (here / "run" / name).write_text("half")
    assert run_without_figures("evaluate", ["run"]) == 0
    assert not list((here / "run").rglob("*.part"))


CONFIGURATIONS = {
    "a model that is a text": ("model:", "model: vae\nrest:"),
    "arguments that are a list": ("init_args:", "init_args: [3]\n  rest:"),
    "a seed in words": ("seed: 0", "seed: zero"),
    "a seed below zero": ("seed: 0", "seed: -1"),
    "data that are a number": ("data: ", "data: 5\nrest: "),
    "an image of words": ("image_shape: null", "image_shape: [a, b]"),
    "an unknown guide": ("guide: amortized", "guide: amortised"),
    "draws in words": ("num_samples: 10", "num_samples: ten"),
    "a program of Python": ("model:", "model: !!python/object/apply:os.system [ls]\nrest:"),
    "no text": ("seed: 0", "seed: \udcff"),
    "a date that is none": ("seed: 0", "seed: 2001-99-99"),
}


@pytest.mark.filterwarnings("ignore::ppl_vae.errors.ChangedSinceFit")
@pytest.mark.parametrize("fault", CONFIGURATIONS)
def test_a_configuration_that_cannot_be_is_one_line(fault: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, (old, new) = here / "run" / "config.yaml", CONFIGURATIONS[fault]
    assert old in path.read_text()
    path.write_bytes(path.read_text().replace(old, new, 1).encode(errors="surrogateescape"))
    assert run_without_figures("evaluate", ["run"]) == 2
    err = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
    assert len(err) == 1
    assert len(err[0]) < 600


METRICS = {
    "no text": b"\xff\xfe\n",
    "no object": b"[1]\n",
    "cut in the middle": b'{"epoch": 3, "elb\n{"epoch": 4}\n',
    "no epoch": b'{"elbo_train": 1.0}\n',
    "an epoch in words": b'{"epoch": "three"}\n',
    "an epoch that was": b'{"epoch": 2}\n',
    "a number in words": b'{"epoch": 3, "elbo_train": "low"}\n',
    "brackets without end": b"[" * 100_000 + b"\n",
    "another number": b'{"epoch": 3, "elbo_train": 1.0, "crc32": 7}\n',
}


@pytest.mark.parametrize("fault", METRICS)
def test_metrics_that_cannot_be_are_one_line(fault: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "run" / "fingerprints.json").unlink()  # rows of earlier versions have no checksums
    with (here / "run" / "metrics.jsonl").open("ab") as file:
        file.write(METRICS[fault])
    message = refusal(Run.open("run").metrics)
    assert "metrics.jsonl" in message
    for verb, args in {"report": ["run"], "fit": ["--resume", "--output", "run"]}.items():
        assert run_without_figures(verb, args) == 2
        assert message in capsys.readouterr().err


def test_a_number_of_the_results_cannot_be_changed(here: Path) -> None:
    replaced("run/summary.json", '"epochs": 2', '"epochs": 3')(here)
    assert "digest is that of another content" in refusal(Run.open("run").read_json, "summary.json")
    replaced("run/metrics.jsonl", '"epoch": 1', '"epoch": 0')(here)
    assert "checksum is that of other numbers" in refusal(Run.open("run").metrics)
