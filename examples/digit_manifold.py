r"""The manifold of the digits: the decoded image at every point of a two-dimensional latent space.

The points are z = (Phi^-1(u1), Phi^-1(u2)) on a uniform grid of u, and each image is the mean of p(x | z) (Kingma and
Welling, Auto-Encoding Variational Bayes, 2014, appendix A, figure 4). Every image represents an equal share of the
prior, so the picture is a map of everything that the model can draw. Images between two digits look a little like both.
"""

import _show
from sklearn.neighbors import KNeighborsClassifier

from ppl_vae import VariationalInference
from ppl_vae.data import load_dataset
from ppl_vae.models.vae import VAE
from ppl_vae.uses import manifold

options = _show.options()
data = load_dataset("digits")
vi = VariationalInference(VAE(latent_dim=2, hidden=(256, 64)), max_epochs=200, patience=None, learning_rate=3e-3)
vi.fit({"x": data.train["x"]}, validation={"x": data.valid["x"]})

grid = manifold(vi, num_steps=20)
figure, ax = _show.panels("The manifold of the digits: the mean of x at each place of the prior", size=(7, 7))
_show.mosaic(ax, grid.means["x"].reshape(-1, 8, 8), 20)
for ticks, values, name in (
    (ax.set_xticks, grid.values[0], grid.names[0]),
    (ax.set_yticks, grid.values[1], grid.names[1]),
):
    ticks([10 * i + 5 for i in range(0, 20, 3)], [f"{value:.1f}" for value in values[::3]])
    (ax.set_xlabel if ticks == ax.set_xticks else ax.set_ylabel)(f"{name}, in equal shares of the prior")
_show.save(figure, options.output)

x = grid.means["x"].reshape(400, 64)
labels = KNeighborsClassifier(5).fit(data.train["x"], data.train["y"]).predict(x > 0.5)
print("share of the map by digit: " + ", ".join(f"{k}: {(labels == k).mean():.0%}" for k in range(10)))
print(f"log evidence of a test digit with 2 latents: {vi.score(data.test['x']):.2f} nats")
