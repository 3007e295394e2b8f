r"""One Gaussian for heights, a mixture of Gaussians for houses: generative models without a network.

Heights: x ~ N(mu, sigma^2), where the best mu and sigma are the mean and the standard deviation of the data. Houses: a
neighbourhood c ~ Categorical(pi), and the size and price given it, x | c ~ N(mu_c, Sigma_c). The neighbourhood of a
house is unknown, so c is summed out: log p(x) = log sum_c pi_c N(x; mu_c, Sigma_c). The evidence is exact, and houses
that the fit has not seen show how many neighbourhoods there are (Bishop, Pattern Recognition and Machine Learning,
2006, sections 1.2.4 and 9.2).
"""

import _show
import numpy as np
import torch

from ppl_vae import VariationalInference
from ppl_vae.models.mixture import Mixture
from ppl_vae.models.normal import Normal

options = _show.options()
rng = np.random.default_rng(0)
heights = rng.normal(171, 9, size=800)
means = np.array([[60.0, 250], [110, 330], [130, 700]])  # m2 and thousands: old town, suburb, villas
spreads = np.array([[[12.0, 0], [40, 25]], [[18, 0], [35, 20]], [[25, 0], [110, 60]]])
place = rng.choice(3, size=1200, p=[0.4, 0.35, 0.25])
houses = means[place] + np.einsum("nij,nj->ni", spreads[place], rng.normal(size=(1200, 2)))
train, test = np.split(((houses - houses.mean(0)) / houses.std(0)).astype("float32"), [800])


def fitted(program, data):
    """Fit a program; so few parameters allow a high learning rate."""
    return VariationalInference(program, learning_rate=0.02, max_epochs=60, validation_fraction=0).fit(data)


def evidence(vi, data):
    """Return the exact log evidence of every datum in nats."""
    return vi.evidence(data, estimator="exact").log_evidence.numpy()


one = fitted(Normal(), ((heights - heights.mean()) / heights.std()).astype("float32")[:, None])
mixtures = []
for k in (1, 2, 3, 4, 5):
    torch.manual_seed(0)
    tries = [fitted(Mixture(num_components=k), train) for _ in range(3 if k > 1 else 1)]  # there are local optima
    mixtures.append(max(tries, key=lambda vi: evidence(vi, train).mean()))
unseen = [evidence(vi, test) for vi in mixtures]

figure, (left, right, bars) = _show.panels("Generative models without a network", 1, 3, size=(4, 3.6))
left.hist(heights, bins=30, density=True, color=_show.PALE, label="800 people")
grid = np.linspace(140, 205, 300).astype("float32")
density = np.exp(evidence(one, ((grid - heights.mean()) / heights.std())[:, None])) / heights.std()
left.plot(grid, density, color=_show.ORANGE, label="one Gaussian")
left.set(title="heights", xlabel="height (cm)", ylabel="density (per cm)", ylim=(0, 0.062))
left.legend(frameon=False)
drawn = mixtures[2].sample(len(test))
for data, marker, size, name in ((test, "o", 16, "unseen house"), (drawn, "x", 14, "drawn from the mixture")):
    components = mixtures[2].posterior(data, num_samples=1).latents["c"][0].ravel()
    square_metres, price = (data * houses.std(0) + houses.mean(0)).T
    for c, colour in enumerate((_show.BLUE, _show.ORANGE, _show.INK)):
        mask = components == c
        filled = {"facecolor": "none", "edgecolor": colour} if marker == "o" else {"color": colour}
        label = name if c == 2 else None
        right.scatter(square_metres[mask], price[mask], s=size, marker=marker, lw=0.8, label=label, **filled)
right.set(
    title="houses: three components, each its colour",
    xlabel="size (m\u00b2)",
    ylabel="price (thousands)",
    ylim=(0, 1300),
)
right.legend(frameon=False)
loss = np.array([(unseen[2] - nats).mean() for nats in unseen])
error = np.array([(unseen[2] - nats).std() / len(test) ** 0.5 for nats in unseen])
bars.errorbar(range(1, 6), [nats.mean() for nats in unseen], error, fmt="o-", color=_show.BLUE, capsize=3)
bars.set(title="400 unseen houses: how many?", xlabel="components", ylabel="exact log evidence (nats a house)")
_show.save(figure, options.output)

print("nats per unseen house by components: " + ", ".join(f"{k}: {n.mean():.3f}" for k, n in enumerate(unseen, 1)))
print(f"three components beat two by {loss[1]:.3f} +- {error[1]:.3f}, and five by {loss[4]:.3f} +- {error[4]:.3f}")
