"""The tasks of the benchmark, their contestants, and the ratio that each comparison must not exceed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from turns import Contestant

OURS = Contestant("ours, compiled", "ours.py", {"compile": "on"})
OURS_BF16 = Contestant("ours, compiled, bf16-mixed", "ours.py", {"compile": "on", "precision": "bf16-mixed"})
OURS_EAGER = Contestant("ours, eager", "ours.py", {"compile": "off"})
SVI = Contestant("pyro.infer.SVI, default settings", "svi.py", {"validation": True, "frozen": False})
SVI_OFF = Contestant("pyro.infer.SVI, validation off", "svi.py", {"validation": False, "frozen": False})
SVI_FROZEN = Contestant(
    "pyro.infer.SVI, default settings, decoder frozen", "svi.py", {"validation": True, "frozen": True}
)
SVI_OFF_FROZEN = Contestant(
    "pyro.infer.SVI, validation off, decoder frozen", "svi.py", {"validation": False, "frozen": True}
)
HAND = Contestant("hand-written PyTorch, Adam", "hand.py")
HAND_FUSED = Contestant("hand-written PyTorch, fused Adam", "hand.py", {"fused": True})
HAND_COMPILED = Contestant(
    "hand-written PyTorch, fused Adam, torch.compile of the loss", "hand.py", {"fused": True, "compile": True}
)
HAND_GRAPH = Contestant("hand-written PyTorch in a CUDA graph", "hand.py", {"graph": True})
HAND_EVIDENCE = Contestant("hand-written PyTorch, eager", "hand.py")
HAND_AT_ONCE = Contestant("hand-written PyTorch, eager, 50 draws of all data at once", "hand.py", {"at_once": 50})
HAND_SOFTPLUS = Contestant("hand-written PyTorch, eager, x l - softplus(l)", "hand.py", {"softplus": True})
PRODUCTS = Contestant("the decoder's matrix products alone", "hand.py", {"products": True})
NUMPYRO = Contestant("NumPyro, jit and scan", "jitted.py", is_peer=True)
OURS_CHAIN = Contestant("ours, compiled", "dmm_ours.py", {"compile": "on"})
NUMPYRO_CHAIN = Contestant("NumPyro, jit and scan", "dmm_jitted.py", is_peer=True)
JAX = Contestant("JAX, jit", "jitted.py", is_peer=True)
PYTHAE = Contestant("pythae, BaseTrainer.train_step", "pythae_trainer.py", is_peer=True)


NUM_SAMPLES = 5000


class Comparison(NamedTuple):
    """A row of the results: two contestants and, if there is one, the largest ratio that is allowed."""

    ours: Contestant
    peer: Contestant
    at_most: float | None = None
    variant: str = ""
    """Setting of our side that is added to the title, if it is not the usual one."""


class Work(NamedTuple):
    """A task: comparisons that are measured in the same run."""

    title: str
    settings: Mapping[str, Any]
    """The fields of ``protocol.Work``."""
    comparisons: tuple[Comparison, ...]
    steps: int = 1
    """The number of steps per turn."""
    each_step: bool = False
    """If true, seconds are reported per step, not per turn."""
    repetitions: int = 9
    value: str = "mean loss of the second turn, nats per datum"
    """The value on which the contestants must agree."""
    needs_gpu: bool = False

    def contestants(self) -> list[Contestant]:
        """Return every contestant once."""
        contestants = [contestant for pair in self.comparisons for contestant in (pair.ours, pair.peer)]
        return list({contestant.name: contestant for contestant in contestants}.values())

    def name(self, comparison: Comparison) -> str:
        """Return the name of the task in a row."""
        return self.title + (f", {comparison.variant}" if comparison.variant else "")


def training(title: str, settings: Mapping[str, Any], steps: int, *comparisons: Comparison, **more: Any) -> Work:
    """Return a task of training steps."""
    return Work(title, {"kind": "step", **settings}, comparisons, steps, each_step=True, **more)


def growing(title: str, settings: Mapping[str, Any], steps: int, at_most: float) -> Work:
    """Return a task of training steps in which one setting is not the usual one."""
    return training(title, settings, steps, Comparison(OURS, NUMPYRO, at_most), Comparison(OURS, HAND_FUSED))


VAE = "training step, vae 784-400-20, batch 128"

WORKS = {
    "step": training(
        VAE,
        {},
        150,
        Comparison(OURS, SVI, 0.30),
        Comparison(OURS, SVI_OFF),
        Comparison(OURS, HAND),
        Comparison(OURS, HAND_FUSED, 0.50),
        Comparison(OURS, HAND_COMPILED),
        Comparison(OURS, NUMPYRO, 0.90),
        Comparison(OURS, PYTHAE, 0.30),
    ),
    "bf16": training(
        f"{VAE}, bf16-mixed", {}, 150, Comparison(OURS_BF16, OURS, 1.00), Comparison(OURS_BF16, NUMPYRO, 0.95)
    ),
    "eager": training(f"{VAE}, eager", {}, 150, Comparison(OURS_EAGER, SVI), Comparison(OURS_EAGER, SVI_OFF)),
    "batch32": growing("training step, vae 784-400-20, batch 32", {"batch_size": 32}, 300, 0.90),
    "batch512": growing("training step, vae 784-400-20, batch 512", {"batch_size": 512}, 40, 0.90),
    "batch2048": growing("training step, vae 784-400-20, batch 2048", {"batch_size": 2048}, 12, 0.90),
    "width100": growing("training step, vae 784-100-20, batch 128", {"hidden": (100,)}, 300, 0.90),
    "width1600": growing("training step, vae 784-1600-20, batch 128", {"hidden": (1600,)}, 30, 0.90),
    "particles8": growing(f"{VAE}, 8 particles", {"num_particles": 8}, 40, 0.80),
    "particles64": growing(f"{VAE}, 64 particles", {"num_particles": 64}, 6, 0.80),
    "large": training(
        "training step, vae 784-512-512-64, batch 512",
        {"hidden": (512, 512), "latent_dim": 64, "batch_size": 512},
        40,
        Comparison(OURS, HAND_FUSED, 0.80),
        Comparison(OURS, NUMPYRO, 0.90),
    ),
    "iwae": Work(
        "IWAE, 5000 draws each of 100 data, vae 784-400-20",
        {"kind": "iwae", "num_data": 100},
        (
            Comparison(OURS, HAND_EVIDENCE, 0.70),
            Comparison(OURS, HAND_AT_ONCE, 0.70),
            Comparison(OURS, HAND_SOFTPLUS, 0.70),
            Comparison(OURS, JAX, 0.75),
        ),
        value="mean log evidence, nats per datum",
    ),
    "lambda": Work(
        "200 steps in lambda of 1000 data, vae 784-400-20",
        {"kind": "lambda", "num_data": 1000, "learning_rate": 0.1},
        (
            Comparison(OURS, SVI, 0.33),
            Comparison(OURS, SVI_OFF),
            Comparison(OURS, SVI_FROZEN, 0.40),
            Comparison(OURS, SVI_OFF_FROZEN),
        ),
        steps=200,
        repetitions=5,
        value="mean ELBO afterwards, nats per datum",
    ),
    "chorales": training(
        "training step, deep Markov model, 20 chorales of 160 steps",
        {"batch_size": 20, "num_samples": 160},
        4,
        Comparison(OURS_CHAIN, NUMPYRO_CHAIN, 1.00),
        value="mean loss of the second turn, nats per time step",
    ),
    "gpu128": training(
        "training step, vae 784-400-20, batch 128, GPU",
        {"device": "cuda"},
        300,
        Comparison(OURS, SVI, 0.10),
        Comparison(OURS, HAND_GRAPH, 1.10),
        needs_gpu=True,
    ),
    "gpu1024": training(
        "training step, vae 784-400-20, batch 1024, GPU",
        {"device": "cuda", "batch_size": 1024},
        300,
        Comparison(OURS, SVI),
        Comparison(OURS, HAND_GRAPH),
        needs_gpu=True,
    ),
    "gpu-iwae": Work(
        "IWAE, 5000 draws each of 10,000 data, vae 784-400-20, GPU",
        {"kind": "iwae", "device": "cuda", "num_data": 10_000},
        (Comparison(OURS, HAND_EVIDENCE),),
        repetitions=3,
        value="mean log evidence, nats per datum",
        needs_gpu=True,
    ),
}

FIT = "default `make fit`, wall clock"
FIT_PEERS = {"the same with --compile off": "off", "the same with --compile on": "on"}
"""The value of ``--compile``, by the name of the peer."""
FIT_AT_MOST = 1.00
FIT_REPETITIONS = 3

COLD = (OURS_EAGER, OURS, SVI, HAND_FUSED, HAND_COMPILED, NUMPYRO)
"""Contestants whose import and first step are timed, each in a process that runs alone."""
COMPILING = (OURS, HAND_COMPILED)
"""Contestants that are timed with an empty and with a filled cache of compiled code."""
COLD_REPETITIONS = 3

GROWTH: dict[str, dict[int, str]] = {
    "batch": {32: "batch32", 128: "step", 512: "batch512", 2048: "batch2048"},
    "width of the hidden layers": {100: "width100", 400: "step", 1600: "width1600"},
    "particles": {1: "step", 8: "particles8", 64: "particles64"},
}
"""The tasks in which a setting grows, by the setting and its value."""

PARTS = (*WORKS, "fit", "cold")
"""The parts that can be run separately."""


def titles() -> list[str]:
    """Return the names of the tasks in the order of their rows."""
    names = [work.name(comparison) for work in WORKS.values() for comparison in work.comparisons]
    return list(dict.fromkeys([*names, FIT]))
