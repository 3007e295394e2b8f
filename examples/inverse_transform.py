r"""Transform simple random numbers by a function, and the results have another distribution.

If u ~ Uniform(0, 1), then x = F^-1(u) has the cumulative distribution function F. For an exponential distribution,
F^-1(u) = -log(1 - u) / rate (Devroye, Non-Uniform Random Variate Generation, 1986, section II.2). The function
z / 10 + z / |z| transforms a Gaussian in the plane to a ring (Doersch, Tutorial on Variational Autoencoders, 2016,
figure 2). A decoder is also such a function, but a learned one: a VAE that was fitted to points of the ring transforms
the same Gaussian to the ring.
"""

import _show
import numpy as np
import torch

from ppl_vae import VariationalInference
from ppl_vae.models.vae import VAE

options = _show.options()
rng, rate = np.random.default_rng(0), 1.5

u = rng.uniform(size=5000)
x = -np.log(1 - u) / rate
steps = np.arange(1, len(x) + 1) / len(x)
distance = np.abs(steps - (1 - np.exp(-rate * np.sort(x)))).max()  # the Kolmogorov-Smirnov distance

z = rng.normal(size=(3000, 2)).astype("float32")
ring = z / 10 + z / np.linalg.norm(z, axis=1, keepdims=True)
program = VAE(data_dim=2, latent_dim=2, hidden=(128, 128), likelihood="gaussian:0.05")
settings = {"bound": "iwae", "num_particles": 10, "batch_size": 200, "learning_rate": 5e-3, "max_epochs": 200}
VariationalInference(program, validation_fraction=0, **settings).fit(ring)
with torch.no_grad():
    decoded = program.decoder(torch.from_numpy(z)).numpy()

figure, axes = _show.panels("A generative model pushes simple random numbers through a function", 1, 5, size=(2.7, 3))
curve, density, *planes = axes
grid = np.linspace(0, 4, 300)
curve.plot(1 - np.exp(-rate * grid), grid, color=_show.INK)
subset = slice(0, 25)
curve.vlines(u[subset], 0, x[subset], color=_show.PALE, lw=1, zorder=0)
curve.hlines(x[subset], u[subset], 1.02, color=_show.ORANGE, lw=1, zorder=0)
curve.plot(u[subset], np.zeros(25), "|", color=_show.INK)
curve.set(title="uniform u, up and across:", xlabel="u, uniform", ylabel="x = -log(1 - u) / rate")
curve.set(xlim=(0, 1.02), ylim=(0, 4))
density.hist(x, bins=50, range=(0, 4), density=True, orientation="horizontal", color=_show.PALE, label="5000 draws")
density.plot(rate * np.exp(-rate * grid), grid, color=_show.ORANGE, label="density")
density.set(title="exponential x", xlabel="density", ylim=(0, 4))
density.legend(frameon=False)
colours = np.array([_show.BLUE, "#e69f00", _show.GREEN, "#cc79a7", _show.INK, _show.ORANGE])
sector = ((np.arctan2(z[:, 1], z[:, 0]) / np.pi + 1) * 3).astype(int) % 6
names = ("z: a Gaussian", "x = z / 10 + z / |z|: a ring", "decoder(z), learned")
for ax, points, name in zip(planes, (z, ring, decoded), names, strict=True):
    ax.scatter(*points.T, c=colours[sector], s=2)
    ax.set(title=name, aspect="equal")
planes[2].sharex(planes[1])
planes[2].sharey(planes[1])
planes[1].set(xlim=(-1.7, 1.7), ylim=(-1.7, 1.7))
_show.save(figure, options.output)

limit = 1.36 / 5000**0.5
print(f"distance of 5000 draws from the exponential law: {distance:.4f}; 95% of such samples are within {limit:.4f}")
near = [np.abs(np.linalg.norm(points, axis=1) - 1.125) < 0.25 for points in (z, ring, decoded)]
print(
    "share of points on the ring, radius 0.875 to 1.375: z {:.0%}, ring {:.0%}, decoded {:.0%}".format(
        *(n.mean() for n in near)
    )
)
