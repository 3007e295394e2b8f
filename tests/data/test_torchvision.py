from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from ppl_vae.data import import_torchvision, load_dataset
from ppl_vae.errors import InputError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
ROOT = Path(__file__).parents[2]

BROKEN = """
import torch
from torchvision import finished
@torch.library.register_fake("torchvision::nms")
def nms(dets, scores, iou_threshold): ...
@torch.library.register_fake("torchvision::qnms")
def qnms(dets, scores, iou_threshold): ...
"""

CHECK = """
import sys, torch
from ppl_vae.imports import import_torchvision
module = import_torchvision()
assert import_torchvision() is module is sys.modules["torchvision"]
print(module.__file__, getattr(module, "runs", None), hasattr(torch.ops.torchvision, "nms"))
"""


def run(code: str, *folders: Path) -> str:
    path = os.pathsep.join(map(str, [*folders, ROOT]))
    process = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def fake_torchvision(folder: Path, init: str) -> Path:
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(init)
    (package / "finished.py").write_text("")
    return package / "__init__.py"


FORKED = f"""
import os, sys, torch, ppl_vae.imports
for folder in FOLDERS:
    if os.fork() == 0:
        sys.path.insert(0, folder)
        try:
            exec({CHECK!r})
        except RuntimeError as error:
            print(error)
        sys.stdout.flush()
        os._exit(0)
    os.wait()
"""


def test_schemas_are_declared_only_if_the_import_needs_them_and_other_failures_are_not_hidden(tmp_path: Path) -> None:
    """Each of three packages named torchvision is imported in a fork of a process that has imported PyTorch."""
    sources = {
        "works": "import torch\nruns = hasattr(torch.ops.torchvision, 'nms')\n",
        "needs": BROKEN,
        "fails": "raise RuntimeError('something else')",
    }
    paths = {}
    for name, source in sources.items():
        (tmp_path / name).mkdir()
        paths[name] = fake_torchvision(tmp_path / name, source)
    code = FORKED.replace("FOLDERS", repr([str(tmp_path / name) for name in sources]))
    assert run(code).splitlines() == [f"{paths['works']} False False", f"{paths['needs']} None True", "something else"]


def test_a_program_file_may_import_torchvision_which_nothing_imports_before(tmp_path: Path) -> None:
    """Its compiled operators may not load, which the data sets and most published programs do not need."""
    fake_torchvision(tmp_path, BROKEN)
    program = "import torchvision\n\n\nclass Mine:\n    def model(self, x): ...\n"
    (tmp_path / "mine.py").write_text(program)
    early = "import sys, ppl_vae.data; print({'torchvision', 'sklearn'} & set(sys.modules))"
    load = f"from ppl_vae.runs import program_class; print(program_class({str(tmp_path / 'mine.py')!r}).__name__)"
    assert run(f"{early}; {load}", tmp_path).splitlines() == ["set()", "Mine"]


def test_the_installed_torchvision_can_be_imported() -> None:
    assert import_torchvision().datasets.MNIST.__name__ == "MNIST"


def test_torchvision_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(InputError, match="pip install torchvision"):
        import_torchvision()


def write_idx(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">I{values.ndim}I", 0x800 + values.ndim, *values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


def images(n: int) -> np.ndarray:
    """Return images whose first pixel is their number; the upper half is grey, the rest black."""
    pixels = np.zeros((n, 28, 28), dtype=np.uint8)
    pixels[:, :14] = 153
    pixels[:, 0, 0] = np.arange(n)
    return pixels


def write_images(folder: Path, train: str, test: str, *, is_transposed: bool = False) -> None:
    for prefix, n in ((train, 60), (test, 12)):
        pixels = images(n).transpose(0, 2, 1) if is_transposed else images(n)
        write_idx(folder / f"{prefix}-images-idx3-ubyte", pixels)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", np.arange(n) % 10)


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_mnist_and_its_like(tmp_path: Path, name: str, folder: str) -> None:
    write_images(tmp_path / folder / "raw", "train", "t10k")
    check(name, tmp_path)


def test_emnist_is_upright(tmp_path: Path) -> None:
    write_images(tmp_path / "EMNIST" / "raw", "emnist-balanced-train", "emnist-balanced-test", is_transposed=True)
    check("emnist", tmp_path)


def check(name: str, root: Path) -> None:
    data = load_dataset(name, data_root=root, binarize="none", seed=0)
    assert data.describe() == f"{name}: 50 train, 10 valid, 12 test; x 784, y"
    assert data.image_shape == (28, 28)
    number = {part: np.rint(data.part(part)["x"][:, 0] * 255).astype(int) for part in ("train", "valid", "test")}
    assert sorted([*number["train"], *number["valid"]]) == list(range(60))
    assert number["test"].tolist() == list(range(12))
    for part, numbers in number.items():
        x, y = data.part(part)["x"], data.part(part)["y"]
        assert (x.dtype, y.dtype) == (np.float32, np.int64)
        assert np.array_equal(y, numbers % 10)
        assert np.array_equal(x, images(60)[numbers].reshape(-1, 784) / np.float32(255))
    again, other = (load_dataset(name, data_root=root, seed=seed).valid["y"] for seed in (0, 1))
    assert np.array_equal(again, data.valid["y"])
    assert not np.array_equal(other, data.valid["y"])
    assert load_dataset(name, data_root=root).binarize == "threshold"


def test_omniglot_has_ink_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    paper = np.full((105, 105), 255, dtype=np.uint8)
    paper[:, 45:60] = 0
    root = tmp_path / "omniglot-py"
    digests = {}
    for folder, n in (("images_background", 12), ("images_evaluation", 3)):
        character = root / folder / "alphabet" / "character01"
        character.mkdir(parents=True)
        for i in range(n):
            Image.fromarray(paper).convert("1").save(character / f"{i:02}.png")
        (root / f"{folder}.zip").write_bytes(folder.encode())
        digests[folder] = hashlib.md5(folder.encode()).hexdigest()
    monkeypatch.setattr(import_torchvision().datasets.Omniglot, "zips_md5", digests)
    data = load_dataset("omniglot", data_root=tmp_path, binarize="none")
    assert data.describe() == "omniglot: 10 train, 2 valid, 3 test; x 784"
    image = data.train["x"][0].reshape(28, 28)
    assert image.min() >= 0
    assert image[:, 13:15].min() > 0.95
    assert image[:, [0, 27]].max() < 0.05


@pytest.mark.parametrize("name", ["mnist", "emnist", "omniglot"])
def test_failed_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    requests = []

    def refuse(request: object, *args: object, **options: object) -> None:
        requests.append(request)
        raise URLError("no network\nat all")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(InputError) as caught:
        load_dataset(name, data_root=tmp_path)
    message = str(caught.value)
    assert requests
    assert "\n" not in message
    assert message.startswith(f"{name}: not in {tmp_path}, and the download failed (")
    assert "data_root" in message
    assert len(message) < 200 + len(str(tmp_path))


def test_data_root_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mnist: there is no folder .*/typo: create it") as caught:
        load_dataset("mnist", data_root=tmp_path / "typo")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("kept", [0, 10, 1000])
def test_truncated_images(tmp_path: Path, kept: int) -> None:
    write_images(tmp_path / "MNIST" / "raw", "train", "t10k")
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"mnist: its files in .* cannot be read") as caught:
        load_dataset("mnist", data_root=tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_real_mnist() -> None:
    if not (SHARED / "MNIST").exists():
        pytest.skip("needs MNIST")
    data = load_dataset("mnist", data_root=SHARED, binarize="none")
    assert data.describe() == "mnist: 50000 train, 10000 valid, 10000 test; x 784, y"
    assert data.test["y"][:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    everything = np.concatenate([data.train["y"], data.valid["y"]])
    assert np.bincount(everything).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.test["x"].mean() == pytest.approx(0.1325, abs=1e-4)
