"""How the commands' threads wait for each other; to be imported before PyTorch.

PyTorch's threads spin while they wait. Where another process wants the same cores, a spinning thread keeps the one it
waits for from running, and a fit of a small model was seen to take fifty times as long. Sleeping costs little and is
immune. As with every setting of the process, the commands make it; importing the library does not.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
