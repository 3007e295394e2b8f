"""Names of devices, on machines that have them and on others."""

from __future__ import annotations

import pytest
import torch

from ppl_vae import InputError
from ppl_vae.estimator.options import device, make_current


@pytest.mark.parametrize(
    ("name", "num_gpus", "apple", "expected"),
    [
        ("auto", 0, False, "cpu"),
        ("auto", 2, False, "cuda"),
        ("auto", 0, True, "cpu"),
        ("cuda", 1, False, "cuda"),
        ("cuda:1", 2, False, "cuda:1"),
        ("mps", 0, True, "mps"),
        ("mps", 0, False, "no Apple GPU"),
        ("cuda:0", 0, False, "--accelerator cuda:0: this machine has no GPU"),
        ("cuda:1", 1, False, "has 1 GPU, numbered from 0"),
        ("cuda:", 1, False, "unknown; expected auto, cpu, cuda, cuda:1 or mps"),
        ("cuda:x", 1, False, "unknown"),
        ("cpu:0", 1, False, "unknown"),
        ("tpu", 1, False, "unknown"),
    ],
)
def test_a_name_is_a_device_or_one_line(
    name: str, num_gpus: int, apple: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
    if expected.split(":")[0] in ("cpu", "cuda", "mps"):
        place = device(name)
        assert place == torch.device(expected)
        assert current == []  # a name can be checked without an effect on the process
        make_current(place)
        assert current == ([place] if name == "cuda:1" else [])
    else:
        with pytest.raises(InputError, match=expected):
            device(name)
