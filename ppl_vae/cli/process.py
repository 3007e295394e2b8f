"""What the commands set for their process, before PyTorch is imported. Importing the library sets nothing.

Threads: GNU OpenMP's spin for milliseconds while they wait for each other. Where another process wants the same cores,
a spinning thread keeps the one that it waits for from running, and a fit of a small model took fifty times as long. A
short spin and then sleep is as fast where the cores are free, within a tenth, and immune where they are not.

Memory: the C library gives large tensors back to the system as soon as they are freed, and each new one then costs a
page fault for every 4 KiB, about half of the time of a step with 1000 images. Here it keeps what it has for the next
tensor of the size; the process takes as much memory as at its peak until it ends.
"""

import ctypes
import os
import sys

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h

if sys.platform == "linux":
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and not {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        mallopt(_MMAP_THRESHOLD, 2**30)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
