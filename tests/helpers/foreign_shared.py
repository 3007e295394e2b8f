"""Programs in the shapes of Pyro's examples and tutorials whose latents all data share, or without a plate of data."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.nn import PyroModule, PyroSample
from pyro.ops.indexing import Vindex
from torch import Tensor, nn
from torch.nn.functional import softplus


def lda(data: Tensor | None = None, args: Any = None, batch_size: int | None = None) -> Tensor | None:
    """``examples/lda``: documents in the columns, topics that all share, the topic of each word summed out."""
    num_topics, num_words, num_docs = 2, 4, 6
    with pyro.plate("topics", num_topics):
        topic_weights = pyro.sample("topic_weights", dist.Gamma(1.0 / num_topics, 1.0))
        topic_words = pyro.sample("topic_words", dist.Dirichlet(torch.ones(num_words) / num_words))
    with pyro.plate("documents", num_docs) as ind:
        if data is not None:
            data = data[:, ind]
        doc_topics = pyro.sample("doc_topics", dist.Dirichlet(topic_weights))
        with pyro.plate("words", 5):
            word_topics = pyro.sample("word_topics", dist.Categorical(doc_topics), infer={"enumerate": "parallel"})
            data = pyro.sample("doc_words", dist.Categorical(topic_words[word_topics]), obs=data)
    return data


def hmm(
    sequences: Tensor, lengths: Tensor, args: Any, batch_size: int | None = None, include_prior: bool = True
) -> None:
    """``examples/hmm``: probabilities that all sequences share, two plates, states that are summed out."""
    num_sequences, max_length, data_dim = sequences.shape
    with poutine.mask(mask=include_prior):
        probs_x = pyro.sample("probs_x", dist.Dirichlet(0.9 * torch.eye(args.hidden_dim) + 0.1).to_event(1))
        probs_y = pyro.sample("probs_y", dist.Beta(0.1, 0.9).expand([args.hidden_dim, data_dim]).to_event(2))
    tones = pyro.plate("tones", data_dim, dim=-1)
    with pyro.plate("sequences", num_sequences, batch_size, dim=-2) as batch:
        lengths, x = lengths[batch], 0
        for t in pyro.markov(range(max_length)):
            with poutine.mask(mask=(t < lengths).unsqueeze(-1)):
                x = pyro.sample(f"x_{t}", dist.Categorical(probs_x[x]), infer={"enumerate": "parallel"})
                with tones:
                    pyro.sample(f"y_{t}", dist.Bernoulli(probs_y[x.squeeze(-1)]), obs=sequences[batch, t])


class SparseGammaDEF:
    """``examples/sparse_gamma_def``: counts, layers of Gammas, and a guide with parameters for each datum."""

    def __init__(self) -> None:
        self.top_width, self.bottom_width, self.num_data = 2, 3, 6

    def model(self, x: Tensor) -> None:
        with pyro.plate("w_bottom_plate", self.top_width * self.bottom_width):
            w = pyro.sample("w_bottom", dist.Gamma(torch.tensor(0.3), torch.tensor(0.3)))
        with pyro.plate("data", x.size(0)):
            z = pyro.sample(
                "z_top", dist.Gamma(x.new_tensor(0.1), x.new_tensor(0.1)).expand([self.top_width]).to_event(1)
            )
            mean = torch.matmul(z, w.reshape(self.top_width, self.bottom_width))
            pyro.sample("obs", dist.Poisson(mean).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("w_bottom_plate", self.top_width * self.bottom_width):
            log_alpha = pyro.param("log_alpha_w", torch.zeros(self.top_width * self.bottom_width))
            pyro.sample("w_bottom", dist.Gamma(softplus(log_alpha), softplus(log_alpha)))
        with pyro.plate("data", x.size(0)):
            log_alpha = pyro.param("log_alpha_z", torch.zeros(self.num_data, self.top_width))
            pyro.sample("z_top", dist.Gamma(softplus(log_alpha), softplus(log_alpha)).to_event(1))


def eight_schools(sigma: Tensor) -> Tensor:
    """``examples/eight_schools``: no plate, and as many effects as there are schools."""
    eta = pyro.sample("eta", dist.Normal(torch.zeros(8), torch.ones(8)))
    mu = pyro.sample("mu", dist.Normal(torch.zeros(1), 10 * torch.ones(1)))
    tau = pyro.sample("tau", dist.HalfCauchy(scale=25 * torch.ones(1)))
    return pyro.sample("obs", dist.Normal(mu + tau * eta, sigma))


def conditioned_eight_schools(y: Tensor, sigma: Tensor) -> Tensor:
    return poutine.condition(eight_schools, data={"obs": y})(sigma)


def schools_in_a_plate(y: Tensor, sigma: Tensor) -> None:
    """The same with one effect for each datum, in a plate."""
    mu = pyro.sample("mu", dist.Normal(y.new_zeros(()), 10.0))
    tau = pyro.sample("tau", dist.HalfCauchy(y.new_tensor(25.0)))
    with pyro.plate("schools", len(y)):
        eta = pyro.sample("eta", dist.Normal(y.new_zeros(()), 1.0))
        pyro.sample("obs", dist.Normal(mu + tau * eta, sigma), obs=y)


def lda_by_rows(docs: Tensor) -> None:
    """Latent Dirichlet allocation with a document in each row."""
    with pyro.plate("topics", 2):
        topic_weights = pyro.sample("topic_weights", dist.Gamma(torch.ones(()), 1.0))
        topic_words = pyro.sample("topic_words", dist.Dirichlet(torch.ones(4)))
    with pyro.plate("documents", len(docs)):
        doc_topics = pyro.sample("doc_topics", dist.Dirichlet(topic_weights))
        with pyro.plate("words", docs.shape[1]):
            word_topics = pyro.sample("word_topics", dist.Categorical(doc_topics))
            pyro.sample("doc_words", dist.Categorical(Vindex(topic_words)[..., word_topics, :]), obs=docs.T)


class BayesianRegression(PyroModule):
    """The tutorial on Bayesian regression: weights with a prior inside a linear layer."""

    def __init__(self, in_features: int = 2, out_features: int = 1) -> None:
        super().__init__()
        self.linear = PyroModule[nn.Linear](in_features, out_features)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([out_features, in_features]).to_event(2))
        self.linear.bias = PyroSample(dist.Normal(0.0, 10.0).expand([out_features]).to_event(1))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        sigma = pyro.sample("sigma", dist.Uniform(0.0, 10.0))
        mean = self.linear(x).squeeze(-1)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("obs", dist.Normal(mean, sigma), obs=y)
        return mean
