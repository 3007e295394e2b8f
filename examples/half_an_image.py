r"""Filling in half an image: the missing half has a distribution, not a single answer.

p(missing | seen) = E[p(missing | z)] over z ~ p(z | seen). The likelihood of the missing pixels is left out. The
posterior of z is inferred from the other pixels, here for each image by gradient steps and importance weights, and
pixels are drawn given z (Rezende, Mohamed and Wierstra, Stochastic Backpropagation, 2014, section 6.4; Mattei and
Frellsen, MIWAE, 2019). The model was fitted to whole digits and needs no further training.
"""

import _show
import numpy as np
from sklearn.impute import KNNImputer

from ppl_vae import VariationalInference
from ppl_vae.data import load_dataset
from ppl_vae.models.vae import VAE
from ppl_vae.uses import impute

options = _show.options()
data = load_dataset("digits")
vi = VariationalInference(VAE(latent_dim=10), max_epochs=150, patience=None)
vi.fit({"x": data.train["x"]}, validation={"x": data.valid["x"]})

truth = data.test["x"][:60].reshape(-1, 8, 8)
holes = truth.copy()
holes[:, 4:] = np.nan  # the lower half
filled = impute(vi, holes.reshape(-1, 64), num_draws=6)
mean, sd = filled.mean["x"].reshape(-1, 8, 8), filled.sd["x"].reshape(-1, 8, 8)


def log_loss(p):
    """Return the log loss of the missing bits in nats per pixel, with probabilities clipped to [0.01, 0.99]."""
    bits, p = truth[:, 4:], np.clip(p.reshape(-1, 8, 8)[:, 4:], 0.01, 0.99)
    return -(bits * np.log(p) + (1 - bits) * np.log(1 - p)).mean()


average = np.broadcast_to(data.train["x"].mean(0), (60, 64))
neighbours = KNNImputer().fit(data.train["x"]).transform(holes.reshape(-1, 64))
shown = [int(np.argmax(data.test["y"][:60] == label)) for label in range(10)]
columns = [holes, *filled.draws["x"].reshape(6, -1, 8, 8), mean, sd / 0.5, truth]
names = ["seen", *[f"draw {i}" for i in range(1, 7)], "mean", "sd", "truth"]
figure, ax = _show.panels("Half an image, and what the rest may have been", size=(6.4, 6.6))
_show.mosaic(ax, np.stack([column[shown] for column in columns], 1).reshape(-1, 8, 8), len(columns))
ax.set_xticks(5 + 10 * np.arange(len(names)), names)
ax.set(xlabel="sd: standard deviation of a pixel; black is 0.5, that of a coin")
ax.xaxis.tick_top()
ax.tick_params(length=0)
_show.save(figure, options.output)

losses = {"the model": mean, "5 nearest neighbours": neighbours, "the average pixel": average}
print("log loss of a missing pixel: " + ", ".join(f"{name} {log_loss(p):.3f}" for name, p in losses.items()) + " nats")
