"""The memory that data may take: sizes, limits of the process, limits of cgroups."""

from __future__ import annotations

from pathlib import Path

import pytest

from ppl_vae.data import memory
from ppl_vae.errors import InputError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *[("2GiB", 2**31), ("2G", 2**31), ("2 gib", 2**31), ("2GB", 2 * 10**9), ("1.5MiB", 3 * 2**19)],
        *[("3000000", 3000000), (" 1t ", 2**40), ("4096k", 2**22), (2**20, 2**20)],
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert memory.parse_size(text) == size
    assert memory.memory_for_data(text) == size


@pytest.mark.parametrize(
    "text", ["", "GiB", "2 gigs", "-2GiB", "2GiB 3", "1e9", "nan", "0", "2", "1000kB", "9e9", "2PiB"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^memory is '.*: expected .* such as 2GiB"):
        memory.parse_size(text)


def write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


@pytest.mark.parametrize("version", [1, 2])
def test_the_limits_of_all_cgroups_count(version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outer group has 600 MiB left, of which 100 are pages of files that can go; the inner one has no limit."""
    root, mib = tmp_path / "cgroup", 2**20
    if version == 2:
        folder, line = root, "0::/outer/inner\n"
        names = ("memory.max", "memory.current", "inactive_file", "max")
    else:
        folder, line = root / "memory", "5:cpu:/\n4:memory:/outer/inner\n"
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "9223372036854771712")
    limit, used, inactive, none = names
    write(tmp_path / "self", {"cgroup": line, "status": ""})
    write(folder / "outer" / "inner", {limit: none, used: str(5 * mib)})
    stat = f"cache 12345\n{inactive} {100 * mib}\n"
    write(folder / "outer", {limit: str(1000 * mib), used: str(500 * mib), "memory.stat": stat})
    monkeypatch.setattr(memory, "CGROUPS", root)
    monkeypatch.setattr(memory, "PROCESS", tmp_path / "self")
    assert list(memory._left_of_cgroups()) == [600 * mib]
    assert memory.free_memory() <= 600 * mib
    assert memory.memory_for_data(None) == memory.free_memory() // 2


def test_the_limit_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    limits = {resource.RLIMIT_AS: 2**40, resource.RLIMIT_DATA: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda limit: (limits[limit], limits[limit]))
    (left,) = memory._left_of_limits()
    assert 0 < 2**40 - left < 2**39
