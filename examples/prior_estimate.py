r"""Estimates of the evidence from the prior: the more latents, the fewer draws come near the posterior.

p(x) = E[p(x | z)] over z ~ p(z), so the average over K draws from the prior is an unbiased estimate. Its logarithm is
too small as soon as no draw explains x, and with D latents about exp(KL(posterior || prior)) draws are needed. Draws
from an encoder q(z | x), weighted by p(x, z) / q(z | x), do not have this problem (Burda, Grosse and Salakhutdinov,
Importance Weighted Autoencoders, 2016; Chatterjee and Diaconis, The sample size required in importance sampling,
2018). The exact evidence of factor analysis is known, so the figure shows the error of both estimates.
"""

import _show
import numpy as np
import torch

from ppl_vae import VariationalInference
from ppl_vae.models.factor_analysis import FactorAnalysis

options = _show.options()
latents, draws, observed = (1, 2, 4, 8, 16, 32), (100, 10_000), 64
missing, effective, divergence = {}, {}, []
for latent_dim in latents:
    torch.manual_seed(latent_dim)
    truth = FactorAnalysis(data_dim=observed, latent_dim=latent_dim)
    torch.nn.init.orthogonal_(truth.decoder.linear.weight, gain=2.0)
    with torch.no_grad():
        mean, noise = truth.decoder(torch.randn(1500, latent_dim))
        x = torch.normal(mean, noise.expand_as(mean)).numpy()
    vi = VariationalInference(truth, max_epochs=20, learning_rate=1e-2, validation_fraction=0).fit(x[:1400])
    test = x[1400:]
    exact = vi.evidence(test, estimator="exact").log_evidence
    evaluation = vi.evaluate(test, estimators=("iwae",), diagnostics=True, num_samples=100)
    divergence.append(evaluation.diagnostics.divergence)
    for name, k in (("prior", draws[0]), ("prior", draws[1]), ("iwae", draws[0])):
        estimate = vi.evidence(test, estimator=name, num_samples=k)
        missing.setdefault((name, k), []).append((exact - estimate.log_evidence).mean().item())
        effective.setdefault((name, k), []).append(estimate.ess.median().item())

figure, (left, right) = _show.panels("Draws from the prior rarely explain a datum", 1, 2, size=(4.4, 3.6))
styles = {
    ("prior", draws[0]): ("o--", _show.ORANGE),
    ("prior", draws[1]): ("s-", _show.ORANGE),
    ("iwae", draws[0]): ("^-", _show.BLUE),
}
for (name, k), (style, colour) in styles.items():
    label = f"{k:,} draws from the {'prior' if name == 'prior' else 'encoder'}"
    left.plot(latents, missing[name, k], style, color=colour, label=label)
    right.plot(latents, np.array(effective[name, k]) / k, style, color=colour, label=label)
left.set(title="how much the estimate is too small", ylabel="exact - estimate (nats per datum)")
left.legend(frameon=False)
right.set(title="share of the draws that count", ylabel="effective draws / draws", yscale="log")
for ax in (left, right):
    ax.set(xlabel="latent dimensions", xscale="log", xticks=latents, xticklabels=latents)
    ax.minorticks_off()
    ax.grid(color="0.92")
_show.save(figure, options.output)

for i, latent_dim in enumerate(latents):
    errors = ", ".join(f"{name} with {k} draws {error[i]:.2f}" for (name, k), error in missing.items())
    print(f"{latent_dim:2} latents, KL {divergence[i]:.1f} nats; exact - estimate in nats: {errors}")
