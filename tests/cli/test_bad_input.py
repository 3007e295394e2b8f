"""Bad input ends with exit status 2 and one line about the option, the value and the remedy; nothing is written."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ppl_vae import InputError, VariationalInference
from ppl_vae.cli.command import run_verb
from ppl_vae.cli.configuration import parse_options
from ppl_vae.models.vae import VAE
from ppl_vae.runs import read_checkpoint, write_checkpoint
from tests.helpers.runs import run_without_figures

QUICK = ["--max-epochs", "2", "--num-samples", "5", "--model.hidden", "[4]", "--model.latent_dim", "2"]

FAILS_LATE = """\
import pyro
import pyro.distributions as dist
import torch
from torch import nn

class Late(nn.Module):
    '''Sound until its tenth training step.'''

    def __init__(self, steps: int = 60):
        super().__init__()
        self.encoder, self.steps, self.taken = nn.Linear(64, 4), steps, 0

    def model(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            logits = z.sum(-1, keepdim=True).expand(*z.shape[:-1], 64)
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        self.taken += self.training and len(x) == 64
        with pyro.plate("data", len(x)):
            loc, raw = self.encoder(x).chunk(2, -1)
            loc = loc * float("nan") if self.taken > self.steps else loc
            pyro.sample("z", dist.Normal(loc, raw.exp()).to_event(1))
"""

DISCRETE = """\
import pyro
import pyro.distributions as dist
import torch
from torch import nn

class Discrete(nn.Module):
    '''A mixture of Bernoullis: its only latent is summed out.'''

    def __init__(self, hidden: list[int], latent_dim: int = 2):
        super().__init__()
        self.logits = nn.Parameter(torch.randn(latent_dim, 64))

    def model(self, x):
        pyro.module("discrete", self)
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Categorical(logits=torch.zeros(len(self.logits))))
            pyro.sample("x", dist.Bernoulli(logits=self.logits[c]).to_event(1), obs=x)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, size=(60, 6)).astype("float32")
    y = rng.integers(0, 3, size=60)
    (tmp_path / "late.py").write_text(FAILS_LATE)
    (tmp_path / "discrete.py").write_text(DISCRETE)
    (tmp_path / "afile").write_text("precious")

    def parts(**changes: np.ndarray) -> dict[str, np.ndarray]:
        arrays = {"x_train": x[:40], "x_valid": x[40:50], "x_test": x[50:]}
        arrays |= {"y_train": y[:40], "y_valid": y[40:50], "y_test": y[50:]}
        return arrays | changes

    def with_value(array: np.ndarray, row: int, value: float) -> np.ndarray:
        changed = array.copy()
        changed[row] = value
        return changed

    np.savez("good.npz", **parts())
    np.savez("infinite.npz", **parts(x_valid=with_value(x[40:50], 4, math.inf)))
    np.savez("inf.npz", **parts(x_train=with_value(x[:40], 7, math.inf)))
    np.savez("grey.npz", **parts(x_test=with_value(x[50:], 3, 0.25)))
    np.savez("wide.npz", **parts(x_test=np.zeros((10, 7), "float32")))
    np.savez("empty.npz", **parts(x_test=x[:0], y_test=y[:0]))
    np.savez("lengths.npz", **parts(lengths_train=y[:40] + 1, lengths_valid=y[40:50] + 5, lengths_test=y[50:] + 1))
    np.savez("label.npz", **parts(y_test=with_value(y[50:], 2, 9)))
    np.savez("negative.npz", **parts(y_train=with_value(y[:40], 1, -2)))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:300])
    (tmp_path / "words.csv").write_text("a,b\n1,2\n3,four\n")
    (tmp_path / "broken.yaml").write_text("a: [1")
    (tmp_path / "strange.yaml").write_text("model: {class_path: 5}\n")
    (tmp_path / "typo.yaml").write_text("max_epoch: 3\n")
    return tmp_path


# The options, and parts of the line.
FAULTS = {
    "--data nothing.npz": ["nothing.npz", "no"],
    "--data mnits": ["unknown data set 'mnits'", "did you mean 'mnist'"],
    "--data mnist --data-root nowhere": ["nowhere"],
    "--data cut.npz": ["cut.npz"],
    "--data words.csv": ["words.csv", "four"],
    "--data infinite.npz": ["inf in row 4", "'x' of valid"],
    "--data inf.npz": ["inf in row 7", "'x' of train"],
    "--data grey.npz --binarize none": ["observes 0.25 (row 3) under a Bernoulli", "--binarize threshold"],
    "--data wide.npz": ["(7,)", "(6,)", "test"],
    "--data empty.npz": ["empty", "test"],
    "--data lengths.npz": ["'lengths' of valid has 7 in row", "x has 6 steps", "from 1 to 6"],
    "--data label.npz": ["label out of range", "9", "row 2"],
    "--data negative.npz": ["label out of range", "-2", "row 1"],
    "--data good.npz --model.data_dim 5": ["shape (7, 6)", "VAE"],
    "--data good.npz --image-shape [2,2]": ["2", "6"],
    "--binarize none": ["under a Bernoulli", "--binarize threshold, static or dynamic"],
    "--binarize foo": ["foo", "threshold"],
    "--model vea": ["unknown model 'vea'", "did you mean 'vae'"],
    "--model none.py:Mine": ["no file", "none.py"],
    "--model late.py:Later": ["no class 'Later'", "did you mean 'Late'"],
    "--model ..": ["'..'", "path/to/file.py:Class"],
    "--model.latent_dim x": ["--model.latent_dim", "a whole number", "got x"],
    "--model.latent-dim 0": ["latent 'z'", "size 0"],
    "--model.foo 3": ["unknown option --model.foo", "--help"],
    "--model.hidden -3": ["--model.hidden", "a list such as [3,4]", "-3"],
    "--max-epoch 3": ["unknown option --max-epoch;", "did you mean --max-epochs?"],
    "--max-epochs 2.5": ["--max-epochs", "a whole number", "2.5"],
    "--max-epochs -1": ["max_epochs is -1"],
    "--batch-size 0": ["batch_size is 0"],
    "--num-samples 0": ["num_samples is 0"],
    "--learning-rate nan": ["--learning-rate", "a number", "nan"],
    "--seed 99999999999999999999": ["seed is 99999999999999999999"],
    "--guide amortised": ["--guide", "one of amortized", "amortised"],
    "--guide per-sample --model discrete.py": ["no latent of Discrete is continuous", "--guide amortized"],
    "--guide semi-amortized --model discrete.py": ["no latent of Discrete is continuous", "--guide amortized"],
    "--family nonsense": ["--family", "one of diagonal, full, flow", "nonsense"],
    "--local-steps 0": ["local_steps is 0", "1 or more"],
    "--inference-steps -5": ["inference_steps is -5"],
    "--local-learning-rate -1": ["local_learning_rate is -1.0: expected a positive number"],
    "--warm-start maybe": ["--warm-start", "maybe"],
    "--encoder-objective final": ["--encoder-objective", "one of initial, refined", "final"],
    "--gradient score": ["--gradient", "one of reparam, score-function", "score"],
    "--gradient score-function": ["leave-one-out baseline needs two draws or more", "--num-particles 2"],
    "--guide per-sample --gradient score-function": ["leave-one-out baseline", "--baseline decaying-average"],
    "--guide semi-amortized --encoder-objective refined --gradient score-function --num-particles 2": [
        "the refined objective is differentiated along the path",
        "--gradient reparam",
    ],
    "--compile never": ["--compile", "one of auto, on, off", "never"],
    "--precision 16": ["--precision", "one of 32-true, bf16-mixed, 64-true", "16"],
    "--matmul-precision low": ["--matmul-precision", "one of auto, highest, high, medium", "low"],
    "--clip-norm 0": ["clip_norm is 0.0: expected a positive number"],
    "--kl-weight -1": ["kl_weight is -1.0: expected 0 or more"],
    "--free-bits -0.5": ["free_bits is -0.5: expected 0 or more"],
    "--kl-warmup-epochs -3": ["kl_warmup_epochs is -3: expected a whole number, 0 or more"],
    "--ema-decay 1": ["ema_decay is 1.0: expected 0 or more and less than 1"],
    "--bound iwae": ["bound='iwae' of one draw is the ELBO: take more, --num-particles 50"],
    "--bound iwae --num-particles 5 --kl-weight 2": ["bound='iwae' has no part for kl_weight", "bound='elbo'"],
    "--bound elbow": ["bound", "iwae"],
    "--guide per-sample --free-bits 0.1": ["free_bits=0.1 is for guide='amortized' alone"],
    "--guide semi-amortized --bound iwae --num-particles 5": ["bound='iwae' is for guide='amortized' alone"],
    "--guide per-sample --kl-weight 0": ["kl_weight is 0: the lambda of a datum has no optimum then; give it more"],
    "--clip-norm nan": ["--clip-norm", "a number", "nan"],
    "--patience": ["--patience", "expected one argument"],
    "fast": ["unexpected argument 'fast'"],
    "--data-plate rows": ["data_plate='rows'", "VAE"],
    "--config none.yaml": ["none.yaml"],
    "--config broken.yaml": ["broken.yaml is no YAML"],
    "--config strange.yaml": ["class_path"],
    "--config typo.yaml": ["unknown option --max-epoch;", "--max-epochs"],
    "--resume": ["is no run folder"],
    "--resume --overwrite": ["--resume", "leave out --overwrite"],
    "--resume automatic": ["--resume automatic", "expected auto"],
    "--output afile": ["afile is a file"],
    "--output afile/run": ["afile", "no folder"],
    "--output .": ["not empty and no run folder"],
}


def test_all_that_is_wrong_is_reported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "wrong.yaml").write_text("model: vae\nmax_epochs: many\nlr: 4\nclip_norm: 0\n")
    options = "--gpu --batch-size 0 --model.latent_dim x --guide amortised --out=there --config wrong.yaml"
    assert run_without_figures("fit", options.split()) == 2
    assert sorted(capsys.readouterr().err.splitlines()) == [
        "error: batch_size is 0: expected a whole number, 1 or more",
        "error: clip_norm is 0.0: expected a positive number",
        "error: option --guide: expected one of amortized, per-sample, semi-amortized, got amortised",
        "error: option --max-epochs: expected a whole number, got many",
        "error: option --model.latent_dim: expected a whole number, got x",
        "error: unknown option --gpu: it is --accelerator cuda here",
        "error: unknown option --lr: it is --learning-rate here",
        "error: unknown option --out: it is --output here",
    ]
    assert run_without_figures("interpolate", ["run", "--compile", "-"]) == 2
    assert capsys.readouterr().err == "error: option --compile: expected one of auto, on, off, got -\n"
    for names, message in {
        ("lr", "latent_dim"): "unknown option 'lr': it is learning_rate here; unknown option 'latent_dim': it is an",
        ("patiens",): "unknown option 'patiens'; did you mean 'patience'?",
    }.items():
        with pytest.raises(InputError, match=message):
            VariationalInference("vae", **dict.fromkeys(names, 1))
    with pytest.raises(InputError, match=r"max_epochs is 0.*; seed is -1"):
        VariationalInference(VAE, max_epochs=0, seed=-1).fit(np.ones((4, 64), "float32"))


def test_an_argument_of_the_program_without_a_default(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration may give it, such as that of a resumed run, whether or not its other options are right."""
    given = here / "given.yaml"
    given.write_text("model: {class_path: discrete.py, init_args: {hidden: [3]}}\nmax_epochs: 5\n")
    options = parse_options(["--config", "given.yaml"])
    assert (options.init_args["hidden"], options.settings["max_epochs"]) == ([3], 5)
    given.write_text(given.read_text().replace("5", "many") + "clip_norm: much\n")
    assert run_without_figures("fit", ["--config", "given.yaml"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: option --max-epochs: expected a whole number, got many",
        "error: option --clip-norm: expected a number, got much",
    ]
    assert run_without_figures("fit", ["--model", "discrete.py"]) == 2
    assert capsys.readouterr().err == ("error: option --model.hidden is required: the program has no default for it\n")


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize("asked", FAULTS)
def test_fit(asked: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(here.rglob("*"))
    assert run_verb("fit", [*QUICK, *asked.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert len(err) < 400
    for part in FAULTS[asked]:
        assert part in err
    assert sorted(here.rglob("*")) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("fit", [*QUICK, "--accelerator", "cuda"]) == 2
    assert capsys.readouterr().err == (
        "error: --accelerator cuda: this machine has no GPU that PyTorch can use; take auto or cpu\n"
    )
    assert not (here / "runs").exists()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fitted") / "run"
    assert run_without_figures("fit", [*QUICK, "--output", str(folder)]) == 0
    return folder


class TestARunThatExists:
    @pytest.fixture
    def run(self, here: Path, fitted: Path) -> Path:
        return Path(shutil.copytree(fitted, here / "run"))

    @staticmethod
    def fails(verb: str, args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
        capsys.readouterr()
        assert run_verb(verb, args) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        return err

    def test_exists(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
        err = self.fails("fit", [*QUICK, "--output", "run"], capsys)
        assert "the run folder run exists: --overwrite replaces it, --resume goes on with it" in err
        assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
        assert run_without_figures("fit", [*QUICK, "--output", "run", "--overwrite", "--seed", "5"]) == 0
        assert yaml.safe_load((run / "config.yaml").read_text())["seed"] == 5

    def test_checkpoint_cut_short(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = run / "checkpoint.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        for verb, args in (("evaluate", ["run"]), ("fit", ["--resume", "--output", "run"])):
            assert "checkpoint.safetensors is cut short or no checkpoint" in self.fails(verb, args, capsys)

    def test_checkpoint_of_another_model(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_without_figures("fit", [*QUICK, "--output", "other", "--model.latent_dim", "3"]) == 0
        (run / "checkpoint.safetensors").write_bytes(Path("other/checkpoint.safetensors").read_bytes())
        for verb, args in (("evaluate", ["run"]), ("fit", ["--resume", "--output", "run"])):
            assert "belong to another model than VAE" in self.fails(verb, args, capsys)

    @pytest.mark.parametrize(
        ("asked", "name"),
        [
            ("--seed 3", "seed"),
            ("--data good.npz", "data"),
            ("--model.latent_dim 5", "model"),
            ("--model late.py", "model"),
        ],
    )
    def test_resumed_as_another_experiment(
        self, run: Path, asked: str, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
        assert f"--resume with another {name}:" in self.fails(
            "fit", ["--resume", "--output", "run", *asked.split()], capsys
        )
        assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before

    def test_resumed_on_data_that_have_changed(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_without_figures("fit", [*QUICK, "--data", "good.npz", "--output", "mine"]) == 0
        arrays = dict(np.load("good.npz"))
        np.savez("good.npz", **{**arrays, "x_train": 1 - arrays["x_train"]})
        err = self.fails("fit", ["--resume", "--output", "mine"], capsys)
        assert "the train data have changed since the fit: 'x' has other values" in err

    def test_evaluate(self, run: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for asked, part in {
            "nowhere": "nowhere is no run folder",
            "run --num-samples 0": "num_samples is 0",
            "run --num-samples -3": "num_samples is -3",
            "run --num-data 0": "num_data is 0",
            "run --part tset": "one of train, valid, test",
            "run --foo 3": "unknown option --foo",
            "run --compile never": "option --compile: expected one of auto, on, off, got never",
            "run --estimators iwea": "--estimators: 'iwea' is unknown; did you mean 'iwae'?",
            "run --estimators ,": "--estimators is empty: name one or more of prior, iwae",
            "run --estimators exact": "the exact evidence of VAE is not known: its latent 'z' cannot be enumerated",
            "run --proposal-scale 0": "proposal_scale is 0.0: expected a positive number; 1 leaves the guide as it is",
            "run --proposal-df 0": "proposal_df is 0.0: expected a positive number",
            "run --start nowhere": "option --start: expected one of prior, guide, got nowhere",
            "run --schedule cubic": "option --schedule: expected one of linear, sigmoidal, got cubic",
            # whether or not it is needed
            "run --num-temperatures 0": "num_temperatures is 0: expected a whole number, 1 or more",
            "run --estimators ais --num-temperatures 0": "num_temperatures is 0: expected a whole number, 1 or more",
            "run --num-chains 0": "num_chains is 0",
            "run --num-leapfrog 0": "num_leapfrog is 0",
            "run --num-simulated 0": "num_simulated is 0",
        }.items():
            assert part in self.fails("evaluate", asked.split(), capsys)
        config = run / "config.yaml"
        config.write_text(config.read_text().replace("model:", "modle:"))
        assert "config.yaml lacks 'model'" in self.fails("evaluate", ["run"], capsys)

    def test_compare(self, run: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        shutil.copytree(run, here / "other")
        for name, options in {
            "seed": ["--seed", "1"],
            "grey": ["--binarize", "none", "--model", "factor_analysis"],
            "density": ["--model", "factor_analysis"],
            "narrow": ["--data", "good.npz"],
        }.items():
            quick = QUICK[:4] if "factor_analysis" in options else QUICK
            assert run_without_figures("fit", [*quick, *options, "--output", name]) == 0
        before = {p: p.read_bytes() for p in here.rglob("*") if p.is_file()}
        for asked, part in {
            "": "a comparison needs two run folders or more, none is given: python -m ppl_vae compare RUN RUN",
            "run": "two run folders or more, only run is given",
            "run ./run": "the run ./run is given twice",
            "run nowhere": "nowhere is no run folder",
            "run seed": "seed and run are on different data, for their 'x' of test differs (--seed 1 and 0): fit the",
            "run grey": "grey and run are on different data, for their 'x' of test differs (--binarize none and thresh",
            "run other narrow": "narrow and run are on different data",
            "run density": "density has a density of 64 real numbers for each datum, run has a probability of 64 whole",
            "run other --estimator bdmc": "--estimator: expected one of prior, iwae, cubo, ais, smc, exact, got bdmc",
            "run other --estimator exact": "run: the exact evidence of VAE is not known",
            "run other --part tset": "one of train, valid, test",
            "run other --num-data 0": "num_data is 0",
            "run other --num-samples 0": "num_samples is 0: expected a whole number, 1 or more",
            "run other --proposal-scale -1": "proposal_scale is -1.0: expected a positive number",
            "run other --num-simulated 3": "unknown option --num-simulated",
            "run other --output seed": "--output seed is a folder: name a file, such as seed/compare.json",
            "run other --output none/out.json": "--output none/out.json cannot be written: there is no folder none",
        }.items():
            assert part in self.fails("compare", asked.split(), capsys)
        assert {p: p.read_bytes() for p in here.rglob("*") if p.is_file()} == before

    def test_a_run_without_an_epoch(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = run / "checkpoint.safetensors"
        tensors, numbers = read_checkpoint(path)
        write_checkpoint(path, {k: v for k, v in tensors.items() if not k.startswith("best.")}, numbers)
        assert "has no finished epoch" in self.fails("evaluate", ["run"], capsys)
        path.unlink()
        assert "no checkpoint at" in self.fails("evaluate", ["run"], capsys)


def test_a_loss_that_turns_nan_keeps_the_last_good_epoch(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """1257 data make 20 batches, 19 of them whole; the checks take a few, so step 61 is in the fourth epoch."""
    options = ["--model", "late.py", "--num-samples", "5", "--output", "run"]
    assert run_without_figures("fit", [*options, "--max-epochs", "9"]) == 2
    err = capsys.readouterr().err
    assert "the loss is nan at epoch 4, batch 3 of 20: lower the learning rate" in err
    assert "the parameters of epoch 3 are kept" in err
    assert err.count("\n") == 1
    tensors, numbers = read_checkpoint(here / "run" / "checkpoint.safetensors")
    assert (numbers["row"]["epoch"], numbers["row"]["best_epoch"]) == (3, 3)
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    assert [json.loads(line)["epoch"] for line in Path("run/metrics.jsonl").read_text().splitlines()] == [1, 2, 3]
    assert run_without_figures("evaluate", ["run"]) == 0

    # From the last good epoch it can go on, with other settings.
    source = here / "late.py"
    source.write_text(FAILS_LATE.replace("steps: int = 60", "steps: int = 6000"))
    config = here / "run" / "config.yaml"
    config.write_text(config.read_text().replace("steps: 60", "steps: 6000"))
    changes = ["--learning-rate", "1e-3", "--max-epochs", "5"]
    assert run_without_figures("fit", ["--resume", "--output", "run", *changes]) == 2
    assert "the source of the program has changed since the fit: late.py has changed" in capsys.readouterr().err
    changes += ["--accept-changes"]
    assert run_without_figures("fit", ["--resume", "--output", "run", *changes]) == 0
    assert json.loads(Path("run/summary.json").read_text())["epochs"] == 5


def test_a_loss_that_turns_nan_at_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_without_figures("fit", ["--model", "late.py", "--model.steps", "3", "--output", "run"]) == 2
    err = capsys.readouterr().err
    assert "at epoch 1, batch 3 of 20" in err
    assert "no epoch was completed" in err
    assert all(
        torch.isfinite(tensor).all() for tensor in read_checkpoint(here / "run/checkpoint.safetensors")[0].values()
    )
