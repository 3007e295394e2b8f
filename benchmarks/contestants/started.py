"""The time at which the code of a contestant starts; every contestant imports this module first."""

import time

STARTED = time.perf_counter()
