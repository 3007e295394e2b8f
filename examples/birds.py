r"""Your own program, from an empty file: counts of birds at sites in four seasons.

A site has a few hidden traits, and each of 12 species likes or dislikes them: z ~ N(0, I), and the counts of species s
in season t are Poisson(exp(b_ts + w_ts z)). This is a log-linear factor model (Chib and Winkelmann, Markov Chain Monte
Carlo Analysis of Correlated Count Data, 2001, use a Gaussian on the log-rates). The steps are those of every project:
write the program, fit it, check its draws, evaluate it against simpler programs, and use it. Here it fills in the
winters in which nobody counted.
"""

import _show
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import nn

from ppl_vae import VariationalInference
from ppl_vae.networks import GaussianEncoder
from ppl_vae.uses import impute


class Birds(nn.Module):
    """A program of counts ``(N, 4, 12)`` by season and species."""

    def __init__(self, traits):
        super().__init__()
        self.traits, self.log_rates, self.encoder = traits, nn.Linear(traits, 48), GaussianEncoder(48, traits, (64,))

    def model(self, x):
        """Draw the traits of every site, then its counts."""
        pyro.module("log_rates", self.log_rates)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.traits), 1.0).to_event(1))
            pyro.sample("x", dist.Poisson(self.log_rates(z).unflatten(-1, (4, 12)).exp()).to_event(2), obs=x)

    def guide(self, x):
        """Infer traits from counts."""
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(*self.encoder(x.log1p().flatten(1))).to_event(1))


options = _show.options()
rng = np.random.default_rng(1)  # the true process: wetness and height of a site; half of the species leave in winter
wet_high, likes = rng.normal(size=(700, 2)), rng.uniform(-0.7, 0.7, size=(2, 12))
season = np.outer([0.5, 0.8, 0.0, -2.0], np.arange(12) < 6)
x = rng.poisson(np.exp(1 + (wet_high @ likes)[:, None] + season)).astype("float32")
train, test = x[:500], x[500:]

independent = dist.Poisson(torch.from_numpy(train.mean(0))).log_prob(torch.from_numpy(test)).sum((1, 2)).numpy()
fits = {
    k: VariationalInference(Birds(k), learning_rate=0.03, max_epochs=200, patience=None).fit(train) for k in (1, 2, 3)
}
explained = [independent] + [vi.score_samples(test) for vi in fits.values()]
drawn = fits[2].sample(500)

unknown = test.copy()
unknown[:, 3] = np.nan  # nobody counted in winter
filled = impute(fits[2], unknown)
truth, guess = test[:, 3], filled.mean["x"][:, 3]
inside = ((filled.lower["x"] <= test) & (test <= filled.upper["x"]))[:, 3].mean()

figure, (check, compare, use) = _show.panels("Your own program: birds", 1, 3, size=(4, 3.7))
for counts, style, name in ((train, "o", "counted"), (drawn, "x", "drawn from the model")):
    check.loglog(counts.mean(0).ravel(), counts.var(0).ravel(), style, mfc="none", label=name)
check.loglog([0.3, 10], [0.3, 10], "--", color=_show.INK, label="without traits: a Poisson")
check.set(title="check: seasons and species", xlabel="mean count", ylabel="variance over sites", ylim=(0.2, 2000))
check.legend(frameon=False)
means, errors = zip(*((nats.mean(), nats.std() / len(test) ** 0.5) for nats in explained), strict=True)
compare.errorbar(range(4), means, errors, fmt="o-", color=_show.BLUE, capsize=3)
compare.set(title="evaluate: 200 unseen sites", ylabel="log evidence (nats per site)")
compare.set_xticks(range(4), [f"{k} traits" for k in range(4)])
use.scatter(truth + rng.uniform(-0.3, 0.3, truth.shape), guess, s=3, color=_show.BLUE)
use.plot([0, 25], [0, 25], "--", color=_show.INK)
use.set(title="use: winters without counts", xlabel="true count, jittered", ylabel="imputed count", ylim=(-1, 25))
_show.save(figure, options.output)
print("nats per site with 0, 1, 2, 3 traits:", *(f"{m:.2f} +- {e:.2f}" for m, e in zip(means, errors, strict=True)))
error, baseline = np.abs(guess - truth).mean(), np.abs(train[:, 3].mean(0) - truth).mean()
print(f"winter: mean error {error:.2f}, of the species' average {baseline:.2f}; 90% intervals contain {inside:.0%}")
