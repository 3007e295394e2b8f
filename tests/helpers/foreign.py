"""Programs in the shapes and signatures of Pyro's examples and tutorials, small, and written anew."""

from __future__ import annotations

from itertools import pairwise

import pyro
import pyro.distributions as dist
import torch
import zuko
from pyro import poutine
from pyro.contrib.zuko import ZukoToPyro
from pyro.distributions import constraints
from torch import Tensor, nn


def perceptron(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.Softplus()]
    return nn.Sequential(*layers[:-1])


class SSVAE(nn.Module):
    """``examples/ss_vae_M2``: a plate without a size, a one-hot label that may be given."""

    def __init__(self, input_size: int = 5, output_size: int = 3, z_dim: int = 2) -> None:
        super().__init__()
        self.output_size, self.z_dim = output_size, z_dim
        self.encoder_y = perceptron(input_size, 4, output_size)
        self.encoder_z = perceptron(input_size + output_size, 4, 2 * z_dim)
        self.decoder = perceptron(z_dim + output_size, 4, input_size)

    def model(self, xs: Tensor, ys: Tensor | None = None) -> Tensor:
        pyro.module("ss_vae", self)
        batch_size = xs.size(0)
        with pyro.plate("data"):
            prior_loc, prior_scale = xs.new_zeros(batch_size, self.z_dim), xs.new_ones(batch_size, self.z_dim)
            zs = pyro.sample("z", dist.Normal(prior_loc, prior_scale).to_event(1))
            alpha_prior = xs.new_ones(batch_size, self.output_size) / self.output_size
            ys = pyro.sample("y", dist.OneHotCategorical(alpha_prior), obs=ys)
            loc = torch.sigmoid(self.decoder(joined(zs, ys)))
            pyro.sample("x", dist.Bernoulli(loc, validate_args=False).to_event(1), obs=xs)
            return loc

    def guide(self, xs: Tensor, ys: Tensor | None = None) -> None:
        with pyro.plate("data"):
            if ys is None:
                ys = pyro.sample("y", dist.OneHotCategorical(self.encoder_y(xs).softmax(-1)))
            loc, scale = self.encoder_z(joined(xs, ys)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))


def joined(*tensors: Tensor) -> Tensor:
    shape = torch.broadcast_shapes(*(tensor.shape[:-1] for tensor in tensors))
    return torch.cat([tensor.expand(*shape, -1) for tensor in tensors], -1)


class CVAE(nn.Module):
    """``examples/cvae``: a baseline network without gradient, and only the pixels that the input lacks observed."""

    def __init__(self, pixels: int = 4, z_dim: int = 2) -> None:
        super().__init__()
        self.baseline_net = perceptron(pixels, 4, pixels)
        self.prior_net, self.recognition_net = (perceptron(2 * pixels, 4, 2 * z_dim) for _ in range(2))
        self.generation_net = perceptron(z_dim, 4, pixels)

    def model(self, xs: Tensor, ys: Tensor | None = None) -> Tensor:
        pyro.module("generation_net", self)
        with pyro.plate("data"):
            with torch.no_grad():
                y_hat = torch.sigmoid(self.baseline_net(xs)).view(xs.shape)
            loc, scale = self.prior_net(torch.cat([xs, y_hat], -1)).chunk(2, -1)
            zs = pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))
            y = torch.sigmoid(self.generation_net(zs))
            if ys is None:
                return pyro.deterministic("y", y.detach())
            hidden = xs == -1  # the same number of pixels in each image
            mask_loc = y[..., hidden[0]]
            pyro.sample(
                "y", dist.Bernoulli(mask_loc, validate_args=False).to_event(1), obs=ys[hidden].view(len(xs), -1)
            )
            return y

    def guide(self, xs: Tensor, ys: Tensor | None = None) -> None:
        with pyro.plate("data"):
            y_hat = torch.sigmoid(self.baseline_net(xs)) if ys is None else ys
            net = self.prior_net if ys is None else self.recognition_net
            loc, scale = net(torch.cat([xs, y_hat], -1)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))


class DMM(nn.Module):
    """``examples/dmm``: five arguments of which the last is a number, sequences in a loop, masks inside events."""

    def __init__(self, input_dim: int = 3, z_dim: int = 2, rnn_dim: int = 4) -> None:
        super().__init__()
        self.emitter, self.trans = perceptron(z_dim, 4, input_dim), perceptron(z_dim, 4, 2 * z_dim)
        self.combiner = perceptron(rnn_dim + z_dim, 4, 2 * z_dim)
        self.rnn = nn.GRU(input_dim, rnn_dim, batch_first=True)
        self.z_0, self.z_q_0 = nn.Parameter(torch.zeros(z_dim)), nn.Parameter(torch.zeros(z_dim))

    def model(
        self,
        mini_batch: Tensor,
        mini_batch_reversed: Tensor,
        mini_batch_mask: Tensor,
        mini_batch_seq_lengths: Tensor,
        annealing_factor: float = 1.0,
    ) -> None:
        t_max = mini_batch.size(1)
        pyro.module("dmm", self)
        z_prev = self.z_0.expand(mini_batch.size(0), self.z_0.size(0))
        with pyro.plate("z_minibatch", len(mini_batch)):
            for t in pyro.markov(range(1, t_max + 1)):
                there = mini_batch_mask[:, t - 1 : t].bool()
                loc, scale = self.trans(z_prev).chunk(2, -1)
                with poutine.scale(scale=annealing_factor):
                    z_prev = pyro.sample(f"z_{t}", dist.Normal(loc, scale.exp()).mask(there).to_event(1))
                probs = torch.sigmoid(self.emitter(z_prev))
                pyro.sample(f"obs_x_{t}", dist.Bernoulli(probs).mask(there).to_event(1), obs=mini_batch[:, t - 1, :])

    def guide(
        self,
        mini_batch: Tensor,
        mini_batch_reversed: Tensor,
        mini_batch_mask: Tensor,
        mini_batch_seq_lengths: Tensor,
        annealing_factor: float = 1.0,
    ) -> None:
        t_max = mini_batch.size(1)
        pyro.module("dmm", self)
        rnn_output = self.rnn(mini_batch_reversed)[0].flip(1)
        z_prev = self.z_q_0.expand(mini_batch.size(0), self.z_q_0.size(0))
        with pyro.plate("z_minibatch", len(mini_batch)):
            for t in pyro.markov(range(1, t_max + 1)):
                there = mini_batch_mask[:, t - 1 : t].bool()
                loc, scale = self.combiner(joined(z_prev, rnn_output[:, t - 1])).chunk(2, -1)
                with poutine.scale(scale=annealing_factor):
                    z_prev = pyro.sample(f"z_{t}", dist.Normal(loc, scale.exp()).mask(there).to_event(1))


class SCANVI(nn.Module):
    """``examples/scanvi``: counts, a scaled plate, labels that may be given, and a factor in the guide."""

    def __init__(self, num_genes: int = 4, num_labels: int = 3, latent_dim: int = 2) -> None:
        super().__init__()
        self.num_genes, self.num_labels, self.latent_dim = num_genes, num_labels, latent_dim
        self.scale_factor, self.alpha = 1.0 / num_genes, 0.1
        self.z2_decoder = perceptron(latent_dim + num_labels, 4, 2 * latent_dim)
        self.x_decoder = perceptron(latent_dim, 4, 2 * num_genes)
        self.z2l_encoder = perceptron(num_genes, 4, 2 * latent_dim + 2)
        self.classifier = perceptron(latent_dim, 4, num_labels)
        self.z1_encoder = perceptron(latent_dim + num_labels, 4, 2 * latent_dim)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("scanvi", self)
        theta = pyro.param("inverse_dispersion", 10.0 * x.new_ones(self.num_genes), constraint=constraints.positive)
        with pyro.plate("batch", len(x)), poutine.scale(scale=self.scale_factor):
            z1 = pyro.sample("z1", dist.Normal(0, x.new_ones(self.latent_dim)).to_event(1))
            y = pyro.sample("y", dist.OneHotCategorical(logits=x.new_zeros(self.num_labels)), obs=y)
            z2_loc, z2_scale = self.z2_decoder(joined(z1, y)).chunk(2, -1)
            z2 = pyro.sample("z2", dist.Normal(z2_loc, z2_scale.exp()).to_event(1))
            library = pyro.sample("l", dist.LogNormal(x.new_tensor(1.0), x.new_ones(1)).to_event(1))
            gate_logits, mu = self.x_decoder(z2).chunk(2, -1)
            nb_logits = (library * mu.softmax(-1) + 1e-6).log() - (theta + 1e-6).log()
            x_dist = dist.ZeroInflatedNegativeBinomial(gate_logits=gate_logits, total_count=theta, logits=nb_logits)
            pyro.sample("x", x_dist.to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("scanvi", self)
        with pyro.plate("batch", len(x)), poutine.scale(scale=self.scale_factor):
            z2_loc, z2_scale, l_loc, l_scale = self.z2l_encoder((1 + x).log()).split([2, 2, 1, 1], -1)
            pyro.sample("l", dist.LogNormal(l_loc, l_scale.exp()).to_event(1))
            z2 = pyro.sample("z2", dist.Normal(z2_loc, z2_scale.exp()).to_event(1))
            y_dist = dist.OneHotCategorical(logits=self.classifier(z2))
            if y is None:
                y = pyro.sample("y", y_dist)
            else:
                pyro.factor("classification_loss", -self.alpha * y_dist.log_prob(y), has_rsample=False)
            z1_loc, z1_scale = self.z1_encoder(joined(z2, y)).chunk(2, -1)
            pyro.sample("z1", dist.Normal(z1_loc, z1_scale.exp()).to_event(1))


class FlowPriorVAE(nn.Module):
    """The tutorial on flow priors: zuko's flows, which have no support, as the prior and as the posterior."""

    def __init__(self, features: int = 4, latent: int = 2) -> None:
        super().__init__()
        self.prior = zuko.flows.MAF(features=latent, transforms=1, hidden_features=(4,))
        self.flow = zuko.flows.MAF(features=latent, context=3, transforms=1, hidden_features=(4,))
        self.encoder, self.decoder = perceptron(features, 3), perceptron(latent, 4, features)

    def model(self, x: Tensor) -> None:
        pyro.module("prior", self.prior)
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", ZukoToPyro(self.prior()))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("flow", self.flow)
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            pyro.sample("z", ZukoToPyro(self.flow(self.encoder(x))))


class ProdLDA(nn.Module):
    """The tutorial on ProdLDA: counts of words, dropout and batch norm, a total that is the largest of the batch."""

    def __init__(self, vocab_size: int = 6, num_topics: int = 3) -> None:
        super().__init__()
        self.num_topics = num_topics
        self.encoder = nn.Sequential(
            nn.Linear(vocab_size, 4), nn.Softplus(), nn.Dropout(0.2), nn.Linear(4, 2 * num_topics)
        )
        self.beta = nn.Linear(num_topics, vocab_size, bias=False)
        self.bn, self.drop = nn.BatchNorm1d(vocab_size, affine=False), nn.Dropout(0.2)

    def model(self, docs: Tensor) -> None:
        pyro.module("decoder", self.beta)
        with pyro.plate("documents", docs.shape[0]):
            loc, scale = (
                docs.new_zeros((docs.shape[0], self.num_topics)),
                docs.new_ones((docs.shape[0], self.num_topics)),
            )
            logtheta = pyro.sample("logtheta", dist.Normal(loc, scale).to_event(1))
            logits = self.beta(self.drop(logtheta.softmax(-1)))
            count_param = self.bn(logits.flatten(0, -2)).view_as(logits).softmax(-1)
            total_count = int(docs.sum(-1).max())
            pyro.sample("obs", dist.Multinomial(total_count, count_param), obs=docs)

    def guide(self, docs: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("documents", docs.shape[0]):
            loc, log_var = self.encoder(docs).chunk(2, -1)
            pyro.sample("logtheta", dist.Normal(loc, (0.5 * log_var).exp()).to_event(1))
