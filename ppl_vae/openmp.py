"""How the commands' threads wait for each other; to be imported before PyTorch.

GNU OpenMP's threads spin for milliseconds while they wait. Where another process wants the same cores, a spinning
thread keeps the one that it waits for from running, and a fit of a small model took fifty times as long. A short spin
and then sleep is as fast where the cores are free, within a tenth, and immune where they are not. As every setting of
the process, the commands make it; importing the library does not.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
