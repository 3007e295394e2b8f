r"""A curved posterior, and the best approximation by a diagonal Gaussian, a full-covariance Gaussian and a flow.

The model is z ~ N(0, I) in the plane, and one observed number x ~ N(z2 + z1^2, 0.3^2). Every z on a bent strip explains
x. With two latents, the exact posterior is known from a grid. Because log p(x) - ELBO = KL(q || posterior), the ELBO
shows how far each family of q is from the posterior (Blei, Kucukelbir and McAuliffe, Variational Inference: A Review
for Statisticians, 2017, equation 14; the flow: Rezende and Mohamed, Variational Inference with Normalizing Flows,
2015). q is optimised by gradient steps for this datum, with guide="per-sample".
"""

import math

import _show
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import nn

from ppl_vae import VariationalInference


class Banana(nn.Module):
    """A program with two latents and one observed number; its only parameter is the noise scale."""

    def __init__(self):
        super().__init__()
        self.log_noise = nn.Parameter(torch.tensor(math.log(0.3)))

    def model(self, x):
        """Draw z, and x around the parabola z2 + z1^2."""
        pyro.module("banana", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z[..., 1] + z[..., 0] ** 2, self.log_noise.exp()), obs=x)


options = _show.options()
x = np.array([1.5], dtype="float32")
axis = torch.linspace(-4, 4, 801, dtype=torch.double)
z1, z2 = torch.meshgrid(axis, axis, indexing="xy")
log_joint = sum(dist.Normal(0.0, 1.0).log_prob(z) for z in (z1, z2)) + dist.Normal(z2 + z1**2, 0.3).log_prob(1.5)
log_evidence = (log_joint.logsumexp((0, 1)) + 2 * (axis[1] - axis[0]).log()).item()
posterior = (log_joint - log_evidence).exp().numpy()
levels = np.sort(posterior.ravel())
inside = 1 - np.cumsum(levels) / levels.sum()
levels = [levels[np.argmax(inside <= share)] for share in (0.95, 0.8, 0.5, 0.2)]  # regions of highest density

titles = {"diagonal": "diagonal Gaussian", "full": "full covariance", "flow": "normalizing flow"}
figure, axes = _show.panels(
    f"The posterior of z given x = {x[0]} (contours: 20, 50, 80, 95 % of it), and draws of q", 1, 3
)
for ax, (family, title) in zip(axes, titles.items(), strict=True):
    torch.manual_seed(0)
    local = {"inference_steps": 2000, "local_learning_rate": 0.05, "num_particles": 64, "local_steps": 1}
    fixed = {"max_epochs": 1, "learning_rate": 1e-12, "validation_fraction": 0}  # the noise scale does not change
    vi = VariationalInference(Banana(), guide="per-sample", family=family, **local, **fixed).fit(x)
    elbo = vi.evaluate(x, estimators=["iwae"], num_samples=100_000).rows["elbo"]
    draws = vi.posterior(x, num_samples=1500).latents["z"][:, 0]
    ax.scatter(*draws.T, s=3, color=_show.ORANGE)
    ax.contour(z1, z2, posterior, levels=levels, colors=_show.INK, linewidths=0.9)
    divergence = log_evidence - elbo.log_evidence
    ax.set(
        title=f"{title}\nKL from the posterior {divergence:.2f} nats", xlim=(-2.6, 2.6), ylim=(-3, 2.6), aspect="equal"
    )
    ax.set(xlabel="z[0]", ylabel="z[1]")
    print(f"{title}: KL {divergence:.3f} +- {elbo.mcse:.3f} nats, evidence {log_evidence:.3f}")
_show.save(figure, options.output)
