r"""Melodies from a hidden Markov model and from a deep Markov model: two kinds of state.

Both models have a chain of hidden states, and each state generates the keys of one step, p(x_t | s_t). An HMM is in one
of 12 discrete states at each step, sums them out and has an exact log p(x) (Rabiner, A Tutorial on Hidden Markov
Models, 1989). The state of a deep Markov model is a Gaussian vector that a network moves, and its guide is an RNN
(Krishnan, Shalit and Sontag, Structured Inference Networks for Nonlinear State Space Models, 2017). The melodies here
are simulated: a progression of four chords and a voice that walks over their notes. Use --data jsb_chorales.npz for
Bach's chorales, or any other file of sequences.
"""

import _show
import numpy as np
import torch

from ppl_vae import VariationalInference
from ppl_vae.data import load_dataset
from ppl_vae.models.deep_markov_model import DeepMarkovModel
from ppl_vae.models.hmm import HMM

STEPS, KEYS = 16, 24
CHORDS = ((0, 4, 7), (9, 0, 4), (5, 9, 0), (7, 11, 2))  # C, a, F, G


def melodies(rng, count):
    """Simulate rolls ``(count, steps, keys)``: the notes of a chord, and a voice above it that moves to near notes."""
    x = np.zeros((count, STEPS, KEYS), dtype="float32")
    for roll in x:
        voice, begin, pace = rng.integers(12, KEYS), rng.integers(4), rng.choice((2, 3))
        for t in range(STEPS):
            chord = CHORDS[(begin + t // pace) % 4]
            near = [key for key in range(12, KEYS) if key % 12 in chord]
            voice = min(near, key=lambda key: abs(key - voice - rng.normal(0, 2)))
            roll[t, [*chord, voice]] = 1
    return x


options = _show.options(data="an .npz file with bits x (N, T, D) and lengths, instead of the simulated melodies")
if options.data:
    data = load_dataset(options.data)
    train, valid, test = (
        {name: part[name] for name in ("x", "lengths")} for part in (data.train, data.valid, data.test)
    )
else:
    rng = np.random.default_rng(0)
    train, valid, test = ({"x": melodies(rng, n), "lengths": np.full(n, STEPS)} for n in (300, 50, 100))
keys, lengths = train["x"].shape[2], test["lengths"][:6]
hmm, dmm = HMM(features=keys, num_states=12), DeepMarkovModel(keys, latent_dim=16, emission=64, transition=64, rnn=64)
programs = {  # name: program and the settings of its fit
    "hidden Markov model": (hmm, {"learning_rate": 0.15, "max_epochs": 30}),
    "deep Markov model": (dmm, {"learning_rate": 0.02, "max_epochs": 50, "kl_warmup_epochs": 25}),
}


def rolls(x):
    """Turn sequences ``(N, T, D)`` into images with the highest key on top."""
    return np.asarray(x)[:, :, ::-1].swapaxes(1, 2)


figure, (top, *drawn) = _show.panels("Melodies: a chord, and a voice above it", 3, 1, size=(6.6, 1.9))
_show.mosaic(top, rolls(test["x"][:6]), 6)
top.set(title=f"the data: {keys} keys, time from left to right")
for (name, (program, settings)), ax in zip(programs.items(), drawn, strict=True):
    torch.manual_seed(0)
    vi = VariationalInference(program, batch_size=50, clip_norm=10, patience=None, **settings).fit(
        train, validation=valid
    )
    evaluation = vi.evaluate(test, num_samples=100)
    per_step = len(test["x"]) / test["lengths"].sum()
    by = "exact" if "exact" in evaluation.rows else "iwae"
    nats, error = (value * per_step for value in (evaluation.rows[by].log_evidence, evaluation.rows[by].se))
    x = vi.sample(len(lengths), lengths=lengths)
    x = np.stack(list(x.values()), 1) if isinstance(x, dict) else x  # the HMM has one site per step
    _show.mosaic(ax, rolls(x), 6)
    ax.set(title=f"drawn from the {name}, log evidence {nats:.2f} nats per step ({by})")
    print(f"{name}: log evidence of the test part {nats:.3f} +- {error:.3f} nats per step ({by})")
_show.save(figure, options.output)
