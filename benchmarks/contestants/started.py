"""When a contestant's own code began: the first thing that it imports."""

import time

STARTED = time.perf_counter()
