"""The folder of a run: files are written whole or not at all, and faults are reported in one line."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from ppl_vae.errors import InputError
from ppl_vae.models.vae import VAE
from ppl_vae.runs import Run, build_program, program_class, read_checkpoint, write_checkpoint, write_posterior
from ppl_vae.runs.files import write_whole
from tests.helpers.arviz_versions import arviz, open_groups

PROGRAM = """
class Mine:
    def __init__(self, width: int = 3):
        if width < 0:
            raise ValueError("width is negative")
    def model(self, x): ...

class NotOne: ...
"""


class TestCheckpoint:
    def test_round_trip(self, tmp_path: Path) -> None:
        shared = torch.arange(6.0).reshape(2, 3)
        tensors = {"a": shared, "tied": shared.T, "double": torch.tensor([1e-300], dtype=torch.double)}
        write_checkpoint(tmp_path / "c", tensors, {"epoch": 3, "best_elbo": -math.inf, "program": "VAE"})
        read, numbers = read_checkpoint(tmp_path / "c")
        assert all(
            torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in tensors.items()
        )
        assert numbers == {"epoch": 3, "best_elbo": -math.inf, "program": "VAE"}
        assert [p.name for p in tmp_path.iterdir()] == ["c"]

    @pytest.mark.parametrize("size", [0, 5, 100, -1])
    def test_cut_short(self, tmp_path: Path, size: int) -> None:
        path = tmp_path / "c"
        write_checkpoint(path, {"a": torch.zeros(50)}, {"epoch": 1})
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(InputError, match=r"c is cut short or no checkpoint \(.+\): restore it or fit the run anew"):
            read_checkpoint(path)

    def test_a_file_of_another_program(self, tmp_path: Path) -> None:
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, tmp_path / "c")
        with pytest.raises(InputError, match="no checkpoint of this version"):
            read_checkpoint(tmp_path / "c")

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="the run ended before its first epoch was saved"):
            read_checkpoint(tmp_path / "c")


class TestWriteWhole:
    def test_a_failure_leaves_the_old_file_and_no_other(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "summary.json"
        write_whole(path, "old")

        def fail(*_: object) -> None:
            raise OSError("disk full")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            write_whole(path, "new")
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]


class TestRun:
    def test_metrics_survive_a_line_that_was_cut_short(self, tmp_path: Path) -> None:
        run = Run(tmp_path / "run")
        run.create({"data": "digits"})
        for epoch in (1, 2, 3):
            run.log({"epoch": epoch, "elbo_valid": math.nan, "elbo_train": -float(epoch)})
        with (run.path / "metrics.jsonl").open("a") as file:
            file.write('{"epoch": 4, "elb')
        assert run.metrics() == [{"epoch": e, "elbo_valid": None, "elbo_train": -float(e)} for e in (1, 2, 3)]
        run.write_summary({"epochs": 3})
        run.write_figure("f", Figure())
        run.rewind({"epoch": 2})
        run.log({"epoch": 3})
        assert [row["epoch"] for row in run.metrics()] == [1, 2, 3]
        assert sorted(p.name for p in run.path.iterdir()) == ["config.yaml", "metrics.jsonl"]  # no results of before
        run.rewind({"epoch": 4, "elbo_train": -4.0})  # the checkpoint was written, its row was not
        assert run.metrics()[-1] == {"epoch": 4, "elbo_train": -4.0}
        run.rewind(None)
        assert run.metrics() == []

    def test_a_summary_is_json_for_any_numbers(self, tmp_path: Path) -> None:
        run = Run(tmp_path / "run")
        run.create({})
        run.write_summary({"test": {"elbo": -1.5, "elbo_se": math.inf}})
        content = json.loads((run.path / "summary.json").read_text())
        assert content.pop("digest")
        assert content == run.read_json("summary.json") == {"test": {"elbo": -1.5, "elbo_se": None}}

    def test_is_never_silently_overwritten(self, tmp_path: Path) -> None:
        run = Run(tmp_path / "run")
        run.free(overwrite=False)
        run.create({"a": 1})
        run.write_summary({"b": 2})
        run.write_figure("f", Figure())
        with pytest.raises(InputError, match=r"exists: --overwrite replaces it, --resume goes on with it"):
            run.create({"a": 2})
        assert run.config() == {"a": 1}
        (run.path / "notes.txt").write_text("mine")
        run.create({"a": 3}, overwrite=True)
        assert run.config() == {"a": 3}
        assert sorted(p.name for p in run.path.iterdir()) == ["config.yaml", "notes.txt"]

    def test_a_folder_of_something_else_is_refused_even_to_overwrite(self, tmp_path: Path) -> None:
        (tmp_path / "precious").write_text("data")
        with pytest.raises(InputError, match="not empty and no run folder"):
            Run(tmp_path).create({}, overwrite=True)
        with pytest.raises(InputError, match="is a file: name a folder"):
            Run(tmp_path / "precious").free(overwrite=True)
        with pytest.raises(InputError, match=r"is no run folder \(it has no config.yaml\)"):
            Run.open(tmp_path)

    @pytest.mark.parametrize(("text", "match"), [("a: [1", "is no YAML"), ("- 1", "is no mapping")])
    def test_broken_configuration(self, tmp_path: Path, text: str, match: str) -> None:
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(InputError, match=match):
            Run.open(tmp_path).config()


class TestProgramClass:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "my model.py"
        path.write_text(PROGRAM)
        return path

    def test_classes_of_a_file_a_module_and_the_gallery(self, file: Path) -> None:
        assert program_class(f"{file}:Mine").__name__ == "Mine"
        assert program_class(str(file)).__name__ == "Mine"  # the only program there
        assert program_class("vae") is VAE
        assert program_class("ppl_vae.models.vae.VAE") is VAE

    def test_faults(self, file: Path, tmp_path: Path) -> None:
        (tmp_path / "broken.py").write_text("x = 1\nclass Mine(:\n")
        (tmp_path / "needy.py").write_text("import no_such_module\n")
        (tmp_path / "two.py").write_text(PROGRAM + "class Other(Mine): ...\n")
        for spec, match in {
            "vea": "unknown model 'vea'; did you mean 'vae'",
            f"{file}:Mien": "no class 'Mien' in .*; did you mean 'Mine'",
            f"{file}:NotOne": "the class 'NotOne' in .* is no program: it needs a method model",
            f"{tmp_path}/none.py:Mine": "no file .*none.py for --model",
            f"{tmp_path}/broken.py:Mine": r"broken.py:2 cannot be imported: SyntaxError",
            f"{tmp_path}/needy.py:Mine": "needy.py cannot be imported: ModuleNotFoundError: No module named 'no_such",
            f"{tmp_path}/two.py": r"has 2 programs; name one: .*:Class \(Mine, Other\)",
            "no_package.models.Mine": "no module 'no_package.models'",
        }.items():
            with pytest.raises(InputError, match=match) as caught:
                program_class(spec)
            assert "\n" not in str(caught.value)

    def test_a_constructor_that_refuses(self, file: Path) -> None:
        with pytest.raises(
            InputError, match=r"Mine cannot be made with {.width.: -1}, ValueError: width is negative; --model.help"
        ):
            build_program(program_class(f"{file}:Mine"), {"width": -1})


def test_posterior_opens_with_arviz(tmp_path: Path) -> None:
    """ArviZ reads the groups, dimensions and rows from the file."""
    rng = np.random.default_rng(0)
    z, x = rng.normal(size=(5, 3, 2)), rng.normal(size=(5, 3, 2, 4))
    scalar = rng.normal(size=(5, 3))
    rows = np.array([2, 5, 7])
    write_posterior(tmp_path / "posterior.nc", {"z": z, "s": scalar}, {"x": x}, {"x": x[0]}, rows)
    found = arviz.from_netcdf(tmp_path / "posterior.nc")
    assert sorted(open_groups(tmp_path / "posterior.nc")) == ["observed_data", "posterior", "posterior_predictive"]
    assert dict(found.posterior.sizes) == {"chain": 1, "draw": 5, "datum": 3, "z_dim_0": 2}
    assert found.posterior.datum.values.tolist() == [2, 5, 7]
    np.testing.assert_array_equal(found.posterior.z.values[0], z)
    assert found.posterior.s.dims == ("chain", "draw", "datum")
    np.testing.assert_array_equal(found.posterior_predictive.x.values[0], x)
    np.testing.assert_array_equal(found.observed_data.x.values, x[0])
    assert [p.name for p in tmp_path.iterdir()] == ["posterior.nc"]
