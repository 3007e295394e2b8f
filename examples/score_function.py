r"""Two gradients of the same ELBO: why reparameterisation made variational autoencoders easy to train.

With log w = log p(x, z) - log q(z), the score function estimates the gradient by log w * grad log q(z), and needs only
the value of p. The reparameterised gradient writes z = mu + sigma * eps and follows the slope of p along this path.
Both are unbiased, but their variances differ. A baseline, subtracted from log w, removes most of the variance of the
score function, and the path derivative has the smallest variance (Kingma and Welling, Auto-Encoding Variational Bayes,
2014, section 2.4; Ranganath, Gerrish and Blei, Black Box Variational Inference, 2014; Roeder et al., Sticking the
Landing, 2017).
"""

import _show
import torch

from ppl_vae import VariationalInference
from ppl_vae.data import load_dataset
from ppl_vae.inference.gradient_variance import gradient_variance
from ppl_vae.models.vae import VAE

options = _show.options()
data = load_dataset("digits")
trained = {
    "reparameterised": ({"gradient": "reparam"}, "-", _show.BLUE),
    "score function, with a baseline": ({"gradient": "score-function"}, "--", _show.ORANGE),
    "score function": ({"gradient": "score-function", "baseline": "none"}, ":", _show.INK),
}
figure, (left, right) = _show.panels("Gradients of one ELBO, all unbiased", 1, 2, size=(4.8, 3.7))
for name, (settings, style, colour) in trained.items():
    torch.manual_seed(0)
    fit = VariationalInference(VAE(latent_dim=5), **settings, num_particles=4, max_epochs=60, patience=None)
    fit.prepare({"x": data.train["x"]}, {"x": data.valid["x"]})
    elbo = [epoch.elbo_valid for epoch in fit.epochs()]
    right.plot(range(1, 61), elbo, style, color=colour, label=name)
    print(f"{name}: validation ELBO {elbo[9]:.2f} nats after 10 epochs, {elbo[-1]:.2f} after 60")
    if name == "reparameterised":
        vi = fit

styles = {
    "score function": ("score function", ":", _show.INK),
    "score function, leave-one-out": ("score function, with a baseline", "--", _show.ORANGE),
    "total derivative": ("reparameterised, all terms", "-.", _show.GREEN),
    "path derivative": ("reparameterised, the path alone", "-", _show.BLUE),
}
variances = gradient_variance(vi.program_, (torch.from_numpy(data.test["x"][:100]),))
for name, (label, style, colour) in styles.items():
    rows = [row for row in variances if row.estimator == name]
    left.plot([r.num_particles for r in rows], [r.variance for r in rows], style, color=colour, label=label)
left.set(title="variance, for 100 test digits and a VAE of 5 latents", xscale="log", yscale="log", ylim=(0.05, 5e7))
left.set(xlabel="draws of z for a gradient", ylabel="sum over lambda (nats squared)", xticks=(1, 4, 16, 64))
left.set_xticklabels((1, 4, 16, 64))
left.minorticks_off()
left.legend(frameon=False, loc="upper right")
right.set(title="training with 4 draws", xlabel="epoch", ylabel="validation ELBO (nats a digit)")
right.legend(frameon=False, loc="lower right")
_show.save(figure, options.output)
variance = {row.estimator: row.variance for row in variances if row.num_particles == 4}
print("variance with 4 draws: " + ", ".join(f"{label} {variance[name]:.1f}" for name, (label, *_) in styles.items()))
