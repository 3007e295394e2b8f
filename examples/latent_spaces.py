r"""An autoencoder, the KL divergence alone, and a variational autoencoder: three latent spaces of the same digits.

The ELBO has two terms, E[log p(x | z)] - KL(q(z | x) || p(z)). The first term alone gives an autoencoder: its codes can
lie anywhere, and most draws from the prior do not decode to digits. The second term alone makes every posterior equal
to the prior: the draws are in the right place but carry no information. Together, they give a latent space that is both
filled and informative (Kingma and Welling, Auto-Encoding Variational Bayes, 2014; the autoencoder: Hinton and
Salakhutdinov, 2006).
"""

import _show
import numpy as np
import torch
from matplotlib.patches import Circle
from sklearn.neighbors import KNeighborsClassifier

from ppl_vae import VariationalInference
from ppl_vae.data import load_dataset
from ppl_vae.models.autoencoder import Autoencoder
from ppl_vae.models.vae import VAE

options = _show.options()
data = load_dataset("digits")
stories = {
    "the likelihood alone: an autoencoder": (Autoencoder(latent_dim=2, hidden=(256, 64)), 1.0),
    "the divergence alone": (VAE(latent_dim=2, hidden=(256, 64)), 1e4),
    "both: a variational autoencoder": (VAE(latent_dim=2, hidden=(256, 64)), 1.0),
}
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#222222", "#999933", "#882255", "#a0a0a0")
classify = KNeighborsClassifier(5).fit(data.train["x"], data.train["y"])


def codes(program, x):
    """Return the codes of an autoencoder, or draws from the posterior of another program."""
    code = program.encoder(torch.from_numpy(x))
    return (torch.normal(*code) if isinstance(code, tuple) else code).detach().numpy()


figure, axes = _show.panels("What the two terms of the ELBO do to a latent space", 2, 3, size=(4, 3.7))
for (name, (program, kl_weight)), (above, below) in zip(stories.items(), axes.T, strict=True):
    settings = {"kl_weight": kl_weight, "max_epochs": 150, "validation_fraction": 0}
    VariationalInference(program, **settings).fit(data.train["x"])
    train, test = codes(program, data.train["x"]), codes(program, data.test["x"])
    accuracy = KNeighborsClassifier(10).fit(train, data.train["y"]).score(test, data.test["y"])
    above.add_patch(Circle((0, 0), 2, color="0.9", zorder=0))
    for label, colour in enumerate(COLOURS):
        mask = data.test["y"][:250] == label
        above.scatter(*test[:250][mask].T, s=30, color=colour, marker=f"${label}$", lw=0.2)
    above.set(title=name, aspect="equal", xlabel="z[0]", ylabel="z[1]")
    with torch.no_grad():
        x = torch.sigmoid(program.decoder(torch.randn(1000, 2))).numpy()
    _show.mosaic(below, x[:40].reshape(-1, 8, 8), 8)
    below.set(title="draws of the prior (grey disc), decoded")
    share = np.bincount(classify.predict(x > 0.5)) / len(x)
    kinds = np.exp(-(share[share > 0] * np.log(share[share > 0])).sum())  # perplexity: the effective number of digits
    reach = np.abs(train).max()
    print(
        f"{name}: codes up to {reach:.0f} classify {accuracy:.0%} of the digits; draws show {kinds:.1f} kinds of digits"
    )
_show.save(figure, options.output)
