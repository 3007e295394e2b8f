r"""beta and disentanglement: with a larger weight of the KL, each latent sometimes encodes a single factor.

Training maximises E[log p(x | z)] - beta KL(q(z | x) || p(z)) (Higgins et al., beta-VAE, 2017, equation 4). The images
show a blob at 18 columns and 8 rows, with 5 widths, so the true factors are known. The score is the mutual information
gap: for each factor, the information in its best latent minus that in its second best, as a share of the entropy of the
factor (Chen, Li, Grosse and Duvenaud, Isolating Sources of Disentanglement, 2018, equation 6; here for posterior means
in 20 bins). The seed matters about as much as beta (Locatello et al., Challenging Common Assumptions, 2019), so three
seeds are fitted.
"""

import _show
import numpy as np
import torch
from sklearn.metrics import mutual_info_score

from ppl_vae import VariationalInference
from ppl_vae.models.vae import VAE
from ppl_vae.uses import traverse

options = _show.options()
grid = np.meshgrid(np.linspace(3, 16, 18), np.linspace(4, 7.5, 8), np.linspace(1.5, 2.7, 5), indexing="ij")
factors = dict(zip(("column", "row", "width"), (values.ravel() for values in grid), strict=True))
column, row, width = (values[:, None, None] for values in factors.values())
squared = (np.arange(20) - column) ** 2 + (np.arange(12)[:, None] - row) ** 2
x = np.exp(-squared / (2 * width**2)).astype("float32").reshape(-1, 240)

middle = len(x) // 2 + 22  # the blob from which the pictures start


def information(z):
    """Return the mutual information of factors and latents, as a share of the entropy of the factor, ``(3, D)``."""
    binned = [np.digitize(latent, np.histogram_bin_edges(latent, 20)[1:-1]) for latent in z.T]
    ranks = [np.unique(values, return_inverse=True)[1] for values in factors.values()]
    return np.array([[mutual_info_score(r, b) / mutual_info_score(r, r) for b in binned] for r in ranks])


figure, axes = _show.panels("What each latent means: images of a blob", 2, 2, (4.8, 2.6), width_ratios=(1.8, 1))
for beta, (left, right) in zip((1, 4), axes, strict=True):
    scores, fits = [], []
    for seed in (0, 1, 2):
        torch.manual_seed(seed)
        program = VAE(data_dim=240, latent_dim=6, hidden=(256, 128), likelihood="gaussian:0.2")
        settings = {"kl_weight": beta, "max_epochs": 120, "validation_fraction": 0, "seed": seed}
        fits.append(VariationalInference(program, **settings).fit(x))
        shares = np.sort(information(fits[-1].transform(x)), axis=1)
        scores.append((shares[:, -1] - shares[:, -2]).mean())
    vi = fits[np.argsort(scores)[1]]  # the figure shows the median seed
    walk = traverse(vi, np.roll(x, -middle, 0), num_dimensions=4, num_steps=8, width=2)
    order = [int(name.strip("z[]")) for name in walk.names]
    shares = information(vi.transform(x))[:, order]
    _show.mosaic(left, walk.means["x"].reshape(-1, 12, 20), 8)
    left.set_yticks(
        14 * np.arange(4) + 7, [f"{n}\n{kl:.1f} nats" for n, kl in zip(walk.names, walk.divergence, strict=True)]
    )
    left.set(title=f"beta = {beta}: one latent at a time, from -2 to 2")
    right.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), value in np.ndenumerate(shares):
        right.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.5 else _show.INK)
    right.set_xticks(range(4), walk.names)
    right.set_yticks(range(3), factors)
    right.set(title=f"information; its gap {sorted(scores)[1]:.2f}")
    listed = ", ".join(f"{score:.2f}" for score in scores)
    print(f"beta {beta}: mutual information gap {np.mean(scores):.2f}, averaged over three seeds ({listed})")
_show.save(figure, options.output)
