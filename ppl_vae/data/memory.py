"""The memory that data may take: sizes as users write them, and the memory that is free."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from mmap import mmap
from pathlib import Path

import torch

from ppl_vae.errors import InputError
from ppl_vae.parallel import present

UNITS = {
    **dict.fromkeys(("", "b"), 1),
    **{f"{letter}b": 1000 ** (power + 1) for power, letter in enumerate("kmgt")},
    **{f"{letter}{end}": 1024 ** (power + 1) for power, letter in enumerate("kmgt") for end in ("", "i", "ib")},
}
"""Bytes of each unit, in lower case; 2G is 2 GiB, as in SLURM and systemd."""
LEAST = 2**20
"""The smallest size that is accepted: less is a slip of the keyboard, such as 2 for 2GiB."""
PAGES_OF_ITS_OWN = 2**25
"""The size of a tensor from which on it has pages of its own."""
SHARE_OF_FREE = 0.5
"""The share of the free memory that data take by default."""
CGROUPS = Path("/sys/fs/cgroup")
PROCESS = Path("/proc/self")
UNLIMITED = 2**60
"""A limit of a cgroup from which on there is none."""


def parse_size(text: str | int) -> int:
    """Return a size in bytes, as a user writes it: ``2GiB``, ``500MB``, ``1.5 GiB`` or a number of bytes.

    Raises:
        InputError: the text is no size, or the size is below 1 MiB.

    Example:
        >>> parse_size("2GiB"), parse_size("1.5 MB"), parse_size(4194304)
        (2147483648, 1500000, 4194304)
        >>> parse_size("2 gigs")
        Traceback (most recent call last):
        ppl_vae.errors.InputError: memory is '2 gigs': expected a number and a unit, such as 2GiB or 500MB
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", str(text).lower())
    if match is None or match[2] not in UNITS:
        raise InputError(f"memory is {text!r}: expected a number and a unit, such as 2GiB or 500MB")
    size = float(match[1]) * UNITS[match[2]]
    if not LEAST <= size < UNLIMITED:
        raise InputError(f"memory is {text!r}, which is {size:.4g} bytes: expected 1MiB or more, such as 2GiB")
    return int(size)


def describe_size(size: float) -> str:
    """Return a number of bytes as a user reads it.

    Example:
        >>> describe_size(3 * 2**30 // 2), describe_size(5000), describe_size(12)
        ('1.5 GiB', '4.9 KiB', '12 bytes')
    """
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size >= 1024**power:
            return f"{size / 1024**power:.1f} {unit}"
    return f"{size:.0f} bytes"


def empty_tensor(
    shape: tuple[int, ...], dtype: torch.dtype, device: str | torch.device = "cpu", *, pinned: bool = False
) -> torch.Tensor:
    """Return a tensor that is not initialised; a large one has pages of its own, which end with it.

    The commands let the C library keep what is freed for the next tensor. If a small one has taken a piece of the room
    of a large buffer, the next buffer does not fit there, and three buffers are kept for two.

    Example:
        >>> empty_tensor((2**22, 2), torch.float32).shape, empty_tensor((0, 2), torch.bool).shape
        (torch.Size([4194304, 2]), torch.Size([0, 2]))
    """
    size = math.prod(shape) * dtype.itemsize
    if torch.device(device).type == "cpu" and not pinned and size >= PAGES_OF_ITS_OWN:
        return torch.frombuffer(mmap(-1, size), dtype=dtype).view(shape)
    return torch.empty(shape, dtype=dtype, device=device, pin_memory=pinned)


def memory_for_data(memory: str | int | None, device: str | torch.device = "cpu") -> int:
    """Return the number of bytes that data may take: those that the user gave, or half of what is free.

    Processes that train together on one machine share what is free.

    Args:
        memory: the size that the user gave, see ``parse_size``; None takes half of the memory that is free.
        device: the device of the data. On a GPU, both its memory and that of the host are limits.
    """
    return parse_size(memory) if memory is not None else int(SHARE_OF_FREE * free_memory(device) / present().local_size)


def free_memory(device: str | torch.device = "cpu") -> int:
    """Return the number of bytes that this process can still take.

    It is the least of the memory that the system calls available, of what is left of the limits of the process
    (``ulimit -v`` and ``-d``) and of the limits of its cgroups, as a container or a scheduler sets them. The pages of
    files that a cgroup would drop first are counted as free.
    """
    free = [_available(), *_left_of_limits(), *_left_of_cgroups()]
    if torch.device(device).type == "cuda":
        free.append(torch.cuda.mem_get_info(torch.device(device))[0])
    return max(0, min(free))


def _available() -> int:
    lines = _fields(Path("/proc/meminfo"))
    if "MemAvailable" in lines:
        return lines["MemAvailable"] * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # a system without /proc


def _left_of_limits() -> Iterator[int]:
    with suppress(ImportError):
        import resource

        used = _fields(PROCESS / "status")
        for limit, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
            soft, _ = resource.getrlimit(limit)
            if soft != resource.RLIM_INFINITY:
                yield soft - used.get(name, 0) * 1024


def _left_of_cgroups() -> Iterator[int]:
    """Yield what is left of each limit, from the cgroup of the process to the root, in version 2 or 1."""
    for line in _text(PROCESS / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            root, limit, used, inactive = CGROUPS, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, limit, used = CGROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            inactive = "total_inactive_file"
        else:
            continue
        folder = root / path.lstrip("/")
        for place in (folder, *folder.parents):
            most, current = _text(place / limit).strip(), _text(place / used).strip()
            if most.isdigit() and current.isdigit() and int(most) < UNLIMITED:
                yield int(most) - int(current) + _fields(place / "memory.stat").get(inactive, 0)
            if place == root:
                break


def _fields(path: Path) -> dict[str, int]:
    """Return the whole numbers of a file with a name and a number on each line."""
    pairs = (line.replace(":", " ").split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
