"""The start of several processes on this machine, by the launcher of ``torchrun``."""

from __future__ import annotations

import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence


def launch(command: Sequence[str], processes: int, max_restarts: int = 0) -> int:
    """Run a Python module in several processes, and return the exit status of the one that failed first, or 0.

    If a process fails, the launcher ends the others, and starts all of them again while there are restarts left. Each
    process has its share of the processor's threads, unless ``OMP_NUM_THREADS`` says otherwise.

    Args:
        command: the name of the module, and its arguments.
        processes: the number of processes.
        max_restarts: the largest number of restarts.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # a process has reported its error itself
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=max_restarts,
    )
    try:
        elastic_launch(config, sys.executable)("-m", *command)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            print(
                f"error: process {rank} was ended by {name}: --resume goes on after the last checkpoint, and "
                f"--max-restarts lets the launcher do so",
                file=sys.stderr,
            )
            return 128 - failure.exitcode
        return failure.exitcode
    except (SignalException, KeyboardInterrupt):
        return 130
    return 0
