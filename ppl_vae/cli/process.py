"""The set-up of the process of a command. It is done by importing this module, before PyTorch is imported.

Only the commands do this; importing the library changes no setting of the process.

Threads: those of GNU OpenMP spin for milliseconds while they wait for each other. If another process wants the same
cores, a spinning thread keeps the one that it waits for from running: a fit of a small model took fifty times as long.
With a short spin and then sleep, it takes at most a tenth longer if the cores are free, and is not slowed if they are
not.

Memory: the C library gives large tensors back to the system as soon as they are freed. Each new one then costs a page
fault for every 4 KiB, which was about half of the time of a step with 1000 images. With these settings the library
keeps the memory for the next tensor of the size, and the process has the memory of its peak until it ends.
"""

import ctypes
import os
import sys

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h

if sys.platform == "linux":
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and not {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        mallopt(_MMAP_THRESHOLD, 2**30)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
