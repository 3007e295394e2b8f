"""The set-up of the process of a command. It is done by importing this module, before PyTorch is imported.

Only the commands do this; importing the library changes no setting of the process.

Threads: those of GNU OpenMP spin for milliseconds while they wait for each other. If another process wants the same
cores, a spinning thread keeps the one that it waits for from running: a fit of a small model took fifty times as long.
So they spin for tens of microseconds, then sleep. If no other process runs when the command starts, they spin for four
times as long, because a core takes a while to wake up: a step of a VAE at a batch of 32 or 128, and of a deep Markov
model, then take up to a tenth less time. Two such fits on the same two cores would take 1.6 times as long as two with
short spins, but one that is started beside another has short ones.

Memory: the C library gives large tensors back to the system as soon as they are freed. Each new one then costs a page
fault for every 4 KiB, which was about half of the time of a step with 1000 images. With these settings the library
keeps the memory for the next tensor of the size, and the process has the memory of its peak until it ends.
"""

import ctypes
import os
import sys
import time
from pathlib import Path

SPINS_ALONE, SPINS_BESIDE_OTHERS = "4000", "1000"
LOAD = Path("/proc/loadavg")
"""A file of Linux with the number of processes and threads that run now."""


def is_alone() -> bool:
    """Return True if Linux reports that no other process runs now; what runs for a millisecond does not count."""
    for _ in range(4):
        try:
            if int(LOAD.read_text().split()[3].partition("/")[0]) <= 1:
                return True
        except (OSError, ValueError, IndexError):
            return False
        time.sleep(0.001)
    return False


if "OMP_WAIT_POLICY" not in os.environ and "GOMP_SPINCOUNT" not in os.environ:
    os.environ["GOMP_SPINCOUNT"] = SPINS_ALONE if is_alone() else SPINS_BESIDE_OTHERS

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h

if sys.platform == "linux":
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and not {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        mallopt(_MMAP_THRESHOLD, 2**30)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
