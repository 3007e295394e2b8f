r"""The cost of an encoder: the posterior of each datum from a network, or from gradient steps for this datum.

log p(x) - L(encoder) = [log p(x) - L(q*)] + [L(q*) - L(encoder)]. The inference gap on the left is a sum of two gaps.
The approximation gap is the loss of even the best Gaussian with a diagonal covariance. The amortization gap is what the
encoder loses compared with this best Gaussian (Cremer, Li and Duvenaud, Inference Suboptimality in Variational
Autoencoders, 2018, section 3). The model is the same everywhere, a VAE of digits. A larger family of posteriors reduces
the approximation gap.
"""

import time

import _show

from ppl_vae import VariationalInference
from ppl_vae.data import load_dataset
from ppl_vae.evaluation.measure_gap import GapSettings, measure_gap
from ppl_vae.models.vae import VAE
from ppl_vae.plots import gaps

options = _show.options()
data = load_dataset("digits")
vi = VariationalInference(VAE(latent_dim=5, hidden=(128,)), max_epochs=150, patience=None)
vi.fit({"x": data.train["x"]}, validation={"x": data.valid["x"]})

subset = {"x": data.test["x"][:150]}
gap = measure_gap(vi.fitted, subset, GapSettings(families="diagonal,full,flow", local_steps=300, num_samples=2000))
elbos = {name: fit.elbo.numpy() for name, fit in gap.families.items()}
figure = gaps(gap.log_evidence.numpy(), elbos, amortized=gap.amortized.numpy(), by=gap.by)
_show.save(figure, options.output)

print(gap.table("test"))
started = time.perf_counter()
vi.transform(subset)
encoder, steps = (time.perf_counter() - started) / gap.num_data, gap.families["diagonal"].seconds_per_datum
parts = ", ".join(f"{name} {mean:.2f} +- {error:.2f}" for name, (mean, error) in gap.gaps("diagonal").items())
print(f"gaps in nats per digit: {parts}")
print(f"time per digit: {1000 * encoder:.2f} ms with the encoder, {1000 * steps:.1f} ms with gradient steps")
