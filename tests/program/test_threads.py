"""Test that programs in several threads at once give the numbers of one thread, bit for bit."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyro
import pytest
import torch

from ppl_vae import VariationalInference
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.models.vae import VAE
from ppl_vae.program import Program, fp32_products, seeded
from ppl_vae.program.bfloat16 import ProductTimes
from tests.helpers.scenarios import Conjugate, bits, normal

BITS, NUMBERS = bits(60, 6).float().numpy(), normal(40, 5).float().numpy()
KINDS: dict[str, tuple[Callable[[], Any], np.ndarray, dict[str, Any]]] = {
    "amortized": (lambda: VAE(data_dim=6, latent_dim=2, hidden=(8,)), BITS, {"guide": "amortized"}),
    "per-sample": (
        lambda: FactorAnalysis(data_dim=5, latent_dim=2),
        NUMBERS,
        {"guide": "per-sample", "local_steps": 3, "inference_steps": 10},
    ),
    "double": (lambda: FactorAnalysis(data_dim=5, latent_dim=2), NUMBERS, {"precision": "64-true", "seed": 3}),
    "mixed": (
        lambda: VAE(data_dim=6, latent_dim=2, hidden=(8,)),
        BITS,
        {"precision": "bf16-mixed", "matmul_precision": "medium"},
    ),
}


@pytest.fixture(autouse=True)
def _bfloat16_repays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let products in bfloat16 be fast, as they are on some processors only."""
    monkeypatch.setattr("ppl_vae.estimator.precision.product_times", lambda: ProductTimes(fp32=2e-3, bf16=1e-3))


def prepare(kind: str) -> tuple[VariationalInference, np.ndarray]:
    make, x, options = KINDS[kind]
    with seeded(1):
        module = make()
    options = {"max_epochs": 3, "num_samples": 20, "compile": "off", **options}
    return VariationalInference(module, **options), x


def fit_and_score(vi: VariationalInference, x: np.ndarray) -> list[np.ndarray]:
    """Fit and score, and return every number that comes out."""
    vi.fit(x)
    return [vi.score_samples(x), vi.transform(x), np.asarray(vi.sample(5)), np.asarray(vi.reconstruct(x))]


@pytest.mark.parametrize("num_threads", [2, 4])
def test_threads_that_fit_and_score_at_once_get_the_numbers_of_one_thread(num_threads: int) -> None:
    kinds = list(KINDS)[:num_threads]
    expected = [fit_and_score(*prepare(kind)) for kind in kinds]
    state, barrier = torch.get_rng_state(), threading.Barrier(num_threads)

    def run(vi: VariationalInference, x: np.ndarray) -> list[np.ndarray]:
        barrier.wait()
        return fit_and_score(vi, x)

    jobs = [prepare(kind) for kind in kinds]
    with ThreadPoolExecutor(num_threads) as pool:
        results = list(pool.map(run, *zip(*jobs, strict=True)))
    for kind, found, wanted in zip(kinds, results, expected, strict=True):
        for ours, theirs in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=kind)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("enter", [
    lambda program: program.running(seed=0, training=False),
    lambda program: seeded(0),
    lambda program: fp32_products("high", torch.device("cpu")),
], ids=["running", "seeded", "products"])  # fmt: skip
def test_a_thread_waits_for_the_one_that_runs_a_program(enter: Callable[[Any], Any]) -> None:
    """The lock is held until the block ends, and the thread that holds it may take it again."""
    program = Program(Conjugate().double()).bind((normal(3),))
    entered = threading.Event()

    def other() -> None:
        with program.running():
            entered.set()

    with enter(program), program.running(training=False):
        thread = threading.Thread(target=other)
        thread.start()
        assert not entered.wait(0.2)
    thread.join(10)
    assert entered.is_set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_process_that_is_forked_while_another_thread_runs_a_program_can_run_one() -> None:
    """The child has the lock, Pyro's stack and the default precision of a process at rest, and no threads of OpenMP."""
    with seeded(1):
        program = Program(Conjugate()).bind((normal(3).float(),))
    entered, before = threading.Event(), torch.get_num_threads()

    def other() -> None:
        with program.running(), pyro.poutine.block():
            torch.set_default_dtype(torch.float64)
            entered.set()
            time.sleep(0.2)
            torch.set_default_dtype(torch.float32)

    def is_at_rest() -> bool:
        with program.running(seed=0):
            torch.ones(10**6).exp().sum()  # by all threads
            return torch.get_default_dtype() == torch.float32 and len(pyro.poutine.runtime._PYRO_STACK) == 0

    torch.set_num_threads(2)
    try:
        assert is_at_rest()
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(10)
        child = os.fork()
        if child == 0:  # no failure may leave this block, or two processes would run the other tests
            signal.alarm(10)  # for a lock or a thread that is waited for without end
            right = False
            try:
                right = is_at_rest()
            finally:
                os._exit(0 if right else 1)
        thread.join()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        torch.set_num_threads(before)
