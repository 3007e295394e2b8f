"""Programs of unusual shapes, whose modules and arguments are where Python allows them to be."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.nn import PyroModule, PyroParam, pyro_method
from torch import Tensor, nn

from tests.helpers.scenarios import normal

DATA = 4
X, BITS = normal(DATA, 3), (normal(DATA, 4, seed=1) > 0).double()
LABELS = torch.arange(DATA) % 3
COUNTS = torch.tensor([[0.0, 2.0], [5.0, 1.0], [3.0, 3.0], [1.0, 0.0]]).double()


class Made(NamedTuple):
    """A program, the modules whose mode matters, and data by the names of the model's arguments."""

    program: Any
    modules: tuple[nn.Module, ...]
    arrays: dict[str, Tensor]


def noisy(inputs: int, outputs: int) -> nn.Sequential:
    """Return a network that computes other numbers in training mode, for any leading dimensions."""
    return nn.Sequential(nn.Linear(inputs, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, outputs))


def gaussian(parameters: Tensor) -> Any:
    loc, log_scale = parameters.chunk(2, -1)
    return dist.Normal(loc, log_scale.exp()).to_event(1)


def matrix_latent() -> Made:
    """A matrix of latents; the networks are in a dictionary of a plain class."""

    class Plain:
        def __init__(self) -> None:
            self.nets = {"decoder": noisy(6, 3), "encoder": noisy(3, 12)}

        def model(self, x: Tensor) -> None:
            pyro.module("decoder", self.nets["decoder"])
            with pyro.plate("rows", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(2, 3), 1.0).to_event(2))
                pyro.sample("x", dist.Normal(self.nets["decoder"](z.flatten(-2)), 0.5).to_event(1), obs=x)

        def guide(self, x: Tensor) -> None:
            pyro.module("encoder", self.nets["encoder"])
            with pyro.plate("rows", len(x)):
                loc, log_scale = self.nets["encoder"](x).unflatten(-1, (2, 2, 3)).unbind(-3)
                pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(2))

    program = Plain()
    return Made(program, tuple(program.nets.values()), {"x": X})


def scalars() -> Made:
    """Data without a dimension of their own; a module that only the closures of two functions hold."""
    encoder = noisy(1, 2)

    def model(x: Tensor) -> None:
        scale = pyro.param("scale", x.new_tensor(0.7), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0 * scale, 1.0))
            pyro.sample("x", dist.StudentT(3.0, z, scale), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = encoder(x[..., None]).unbind(-1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()))

    return Made((model, guide), (encoder,), {"x": X[:, 0]})


def plate_outside() -> Made:
    """The data plate lies to the left of a plate of features; the networks are bound by ``partial``."""
    nets = SimpleNamespace(decoder=noisy(2, 3), encoder=noisy(3, 4))

    def model(decoder: nn.Module, x: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x), dim=-2):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            with pyro.plate("features", 3, dim=-1):
                pyro.sample("x", dist.Laplace(decoder(z).squeeze(-2), 0.5), obs=x)

    def guide(encoder: nn.Module, x: Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x), dim=-2):
            pyro.sample("z", gaussian(encoder(x)[..., None, :]))

    parts = partial(model, nets.decoder), partial(guide, nets.encoder)
    return Made(parts, (nets.decoder, nets.encoder), {"x": X})


def plate_inside() -> Made:
    """Each number of a datum has its own latent in an inner plate; the networks are in a list of a module."""

    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nets = [noisy(1, 1), noisy(1, 2)]

        def model(self, x: Tensor) -> None:
            pyro.module("decoder", self.nets[0])
            with pyro.plate("data", len(x), dim=-1), pyro.plate("numbers", 3, dim=-2):
                z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
                pyro.sample("x", dist.Normal(self.nets[0](z[..., None])[..., 0], 0.4), obs=x.T)

        def guide(self, x: Tensor) -> None:
            pyro.module("encoder", self.nets[1])
            with pyro.plate("data", len(x), dim=-1), pyro.plate("numbers", 3, dim=-2):
                loc, log_scale = self.nets[1](x.T[..., None]).unbind(-1)
                pyro.sample("z", dist.Normal(loc, log_scale.exp()))

    program = Listed()
    return Made(program, tuple(program.nets), {"x": X})


def two_observations() -> Made:
    """Counts and bits, given in another order than the model names them; the guide samples in the reverse order."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rates, self.logits, self.encoder = noisy(2, 2), noisy(4, 4), noisy(6, 8)

        def model(self, bits: Tensor, counts: Tensor) -> None:
            pyro.module("two", self)
            with pyro.plate("data", len(counts)):
                a = pyro.sample("a", dist.Normal(counts.new_zeros(2), 1.0).to_event(1))
                b = pyro.sample("b", dist.Normal(a, 0.5).to_event(1))
                pyro.sample("counts", dist.Poisson(self.rates(a).exp()).to_event(1), obs=counts)
                logits = self.logits(torch.cat([a, b], -1))
                pyro.sample("bits", dist.Bernoulli(logits=logits).to_event(1), obs=bits)

        def guide(self, bits: Tensor, counts: Tensor) -> None:
            pyro.module("two", self)
            with pyro.plate("data", len(counts)):
                of_b, of_a = self.encoder(torch.cat([bits, counts], -1)).split(4, -1)
                b = pyro.sample("b", gaussian(of_b))
                loc, log_scale = of_a.chunk(2, -1)
                pyro.sample("a", dist.Normal(loc + b, log_scale.exp()).to_event(1))

    program = Two()
    return Made(program, (program,), {"counts": COUNTS, "bits": BITS})


def labels_behind_a_number() -> Made:
    """A number with a default stands before the labels, which are observed; the guide looks at them."""

    class Labelled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classifier, self.decoder, self.encoder = noisy(2, 3), noisy(2, 3), noisy(6, 4)

        def model(self, x: Tensor, temperature: float = 1.0, y: Tensor | None = None) -> None:
            pyro.module("labelled", self)
            with pyro.plate("data", len(x)), poutine.scale(scale=temperature):
                z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
                pyro.sample("y", dist.Categorical(logits=self.classifier(z)), obs=y)
                pyro.sample("x", dist.Normal(self.decoder(z), 0.5).to_event(1), obs=x)

        def guide(self, x: Tensor, temperature: float = 1.0, y: Tensor | None = None) -> None:
            pyro.module("labelled", self)
            labels = x.new_zeros(len(x), 3) if y is None else nn.functional.one_hot(y, 3).to(x)
            with pyro.plate("data", len(x)), poutine.scale(scale=temperature):
                pyro.sample("z", gaussian(self.encoder(torch.cat([x, labels], -1))))

    program = Labelled()
    return Made(program, (program,), {"x": X, "y": LABELS})


def chain() -> Made:
    """Latents in a loop, each given all before it; modules in nested lists and tuples of an object of no class."""
    nets = SimpleNamespace(kept=[(noisy(1, 2), noisy(2, 2)), {"encoder": [noisy(3, 6)]}])

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            past: list[Tensor] = []
            for t in range(3):
                if past:
                    net = pyro.module(f"net_{t}", nets.kept[0][t - 1])
                    fn = gaussian(net(torch.stack(past, -1))).base_dist
                    fn = dist.Normal(fn.loc[..., 0], fn.scale[..., 0])
                else:
                    fn = dist.Normal(x.new_zeros(()), 1.0)
                past.append(pyro.sample(f"z_{t}", fn))
                pyro.sample(f"x_{t}", dist.Cauchy(past[-1], 0.5), obs=x[:, t])

    def guide(x: Tensor) -> None:
        encoder = pyro.module("encoder", nets.kept[1]["encoder"][0])
        with pyro.plate("data", len(x)):
            loc, log_scale = encoder(x).chunk(2, -1)
            for t in range(3):
                pyro.sample(f"z_{t}", dist.Normal(loc[..., t], log_scale[..., t].exp()))

    return Made((model, guide), (*nets.kept[0], nets.kept[1]["encoder"][0]), {"x": X})


def constrained() -> Made:
    """A simplex, a positive number and one between zero and one; the modules are default values of arguments."""
    decoder, encoder = noisy(3, 3), noisy(3, 7)

    def model(x: Tensor, *, decoder: nn.Module = decoder) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            shares = pyro.sample("shares", dist.Dirichlet(x.new_ones(3)))
            scale = pyro.sample("scale", dist.Gamma(x.new_tensor(2.0), 2.0))
            weight = pyro.sample("weight", dist.Beta(x.new_tensor(2.0), 1.5))
            loc = weight[..., None] * decoder(shares)
            pyro.sample("x", dist.Normal(loc, scale[..., None] + 0.1).to_event(1), obs=x)

    def guide(x: Tensor, *, encoder: nn.Module = encoder) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            positive = nn.functional.softplus(encoder(x)) + 0.5
            pyro.sample("weight", dist.Beta(positive[..., 3], positive[..., 4]))
            pyro.sample("shares", dist.Dirichlet(positive[..., :3]))
            pyro.sample("scale", dist.LogNormal(encoder(x)[..., 5], positive[..., 6]))

    return Made((model, guide), (decoder, encoder), {"x": X})


def switches() -> Made:
    """Two discrete latents that the guide leaves out, one of which chooses among networks, beside a continuous one."""

    class Switched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoders, self.encoder = nn.ModuleList([noisy(2, 3) for _ in range(2)]), noisy(3, 4)

        def model(self, x: Tensor) -> None:
            pyro.module("switched", self)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
                which = pyro.sample("which", dist.Bernoulli(x.new_tensor(0.3)), infer={"enumerate": "parallel"})
                logits = torch.stack([which, 0 * which, -which], -1)
                shift = pyro.sample("shift", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
                first, second = (decoder(z) for decoder in self.decoders)
                loc = torch.where(which[..., None] > 0, first, second) + shift[..., None]
                pyro.sample("x", dist.Normal(loc, 0.7).to_event(1), obs=x)

        def guide(self, x: Tensor) -> None:
            pyro.module("switched", self)
            with pyro.plate("data", len(x)):
                pyro.sample("z", gaussian(self.encoder(x)))

    program = Switched()
    return Made(program, (program,), {"x": X})


def inner_switches(guided: bool) -> Made:
    """A discrete latent of each number of a datum, in an inner plate, which the guide samples or leaves out."""
    decoder, encoder = noisy(2, 3), noisy(3, 4)

    def model(x: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            with pyro.plate("numbers", 3):
                on = pyro.sample("on", dist.Bernoulli(logits=z[..., 0]), infer={"enumerate": "parallel"})
                pyro.sample("x", dist.Normal(decoder(z).movedim(-1, -2) + on, 0.5), obs=x.T)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            parameters = encoder(x)
            pyro.sample("z", gaussian(parameters))
            if guided:
                with pyro.plate("numbers", 3):
                    pyro.sample("on", dist.Bernoulli(logits=parameters[..., 0]))

    return Made((model, guide), (decoder, encoder), {"x": X})


def masked() -> Made:
    """Some numbers are masked, each datum has a factor, all is scaled; the guide is an object that can be called."""
    decoder, encoder = noisy(2, 3), noisy(3, 4)

    class Guide:
        def __init__(self) -> None:
            self.inside = {"deep": SimpleNamespace(encoder=encoder)}

        def __call__(self, seen: Tensor, x: Tensor) -> None:
            pyro.module("encoder", self.inside["deep"].encoder)
            with poutine.scale(scale=0.25), pyro.plate("data", len(x)):
                pyro.sample("z", gaussian(self.inside["deep"].encoder(x * seen)))

    def model(seen: Tensor, x: Tensor) -> None:
        pyro.module("decoder", decoder)
        with poutine.scale(scale=0.25), pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.factor("pull", -0.1 * z.square().sum(-1))
            fn = dist.Normal(decoder(z), 0.5).mask(seen.bool()).to_event(1)
            pyro.sample("x", fn, obs=x)

    seen = (torch.arange(DATA * 3).reshape(DATA, 3) % 4 > 0).double()
    return Made((model, Guide()), (decoder, encoder), {"x": X, "seen": seen})


def correlated() -> Made:
    """A full covariance, images that a convolution decodes, and networks that only a property gives."""
    nets = {
        "decoder": nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Unflatten(-1, (1, 2, 2)), nn.Conv2d(1, 1, 1)),
        "encoder": noisy(4, 5),
    }

    class Hidden:
        @property
        def parts(self) -> dict[str, nn.Module]:
            return nets

        def model(self, image: Tensor) -> None:
            decoder = pyro.module("decoder", self.parts["decoder"])
            with pyro.plate("images", image.shape[0]):
                z = pyro.sample("z", dist.MultivariateNormal(image.new_zeros(2), torch.eye(2).to(image)))
                logits = decoder(z.flatten(0, -2)).reshape(*z.shape[:-1], 1, 2, 2)
                pyro.sample("image", dist.Bernoulli(logits=logits).to_event(3), obs=image)

        def guide(self, image: Tensor) -> None:
            encoder = pyro.module("encoder", self.parts["encoder"])
            with pyro.plate("images", image.shape[0]):
                loc, log_scale, below = encoder(image.flatten(1)).split([2, 2, 1], -1)
                factor = torch.diag_embed(log_scale.exp()) + nn.functional.pad(below[..., None], (0, 1, 1, 0))
                pyro.sample("z", dist.MultivariateNormal(loc, scale_tril=factor))

    return Made(Hidden(), tuple(nets.values()), {"image": BITS.reshape(DATA, 1, 2, 2)})


def absolute() -> Made:
    """Networks count dimensions from the left, and every size is that of the batch; the plate is entered twice."""

    class Absolute(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder, self.encoder = noisy(DATA, DATA), noisy(DATA, 2 * DATA)

        def model(self, x: Tensor) -> None:
            pyro.module("absolute", self)
            data = pyro.plate("data", len(x))
            with data:
                z = pyro.sample("z", dist.Normal(x.new_zeros(DATA), 1.0).to_event(1))
            first, rest = z[:, :1], z[:, 1:]
            hidden = self.decoder(torch.cat([first * rest.sum(1, keepdim=True), rest], 1))
            loc = hidden.softmax(1) + hidden.view(len(x), 2, -1).transpose(1, 2).reshape(len(x), -1)
            pyro.deterministic("loc", loc)
            with data:
                pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=x)

        def guide(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                loc, log_scale = self.encoder(x).split(DATA, 1)
                pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    program = Absolute()
    return Made(program, (program,), {"x": normal(DATA, DATA)})


def transformed() -> Made:
    """A latent with a transformed prior, another that a third one shifts, and data behind a transform."""
    affine, encoder = noisy(2, 2), noisy(2, 4)

    def model(x: Tensor) -> None:
        pyro.module("affine", affine)
        with pyro.plate("data", x.shape[0]):
            base = dist.Normal(x.new_zeros(()), 1.0)
            a = pyro.sample("a", dist.TransformedDistribution(base, [dist.transforms.SigmoidTransform()]))
            b = pyro.sample("b", dist.TransformedDistribution(base, [dist.transforms.AffineTransform(a, 0.5)]))
            loc = affine(torch.stack([a, b], -1))
            pyro.sample("x", dist.LogNormal(loc, 0.5).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", x.shape[0]):
            loc, log_scale = encoder(x.log()).chunk(2, -1)
            fn = dist.Normal(loc[..., 0], log_scale[..., 0].exp())
            pyro.sample("a", dist.TransformedDistribution(fn, [dist.transforms.SigmoidTransform()]))
            pyro.sample("b", dist.Normal(loc[..., 1], log_scale[..., 1].exp()))

    return Made((model, guide), (affine, encoder), {"x": X[:, :2].exp()})


def subsampled() -> Made:
    """A plate of all data of which a batch is a part; its total scales an objective, and no evidence."""
    decoder, encoder = noisy(2, 3), noisy(3, 4)

    def model(x: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", 1000, subsample_size=len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decoder(z), 0.5).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", 1000, subsample=x) as rows:
            pyro.sample("z", gaussian(encoder(rows)))

    return Made((model, guide), (decoder, encoder), {"x": X})


def pyro_modules() -> Made:
    """Modules of Pyro: a constrained parameter that is an attribute, and networks whose layers are Pyro's as well."""

    class Modules(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.noise = PyroParam(torch.tensor(0.4), constraint=constraints.positive)
            self.decoder = PyroModule[nn.Sequential](PyroModule[nn.Linear](2, 3), nn.Dropout(0.5))
            self.encoder = PyroModule[nn.Linear](3, 4)

        @pyro_method
        def model(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(self.decoder(z), self.noise).to_event(1), obs=x)

        @pyro_method
        def guide(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("z", gaussian(self.encoder(x)))

    program = Modules()
    return Made(program, (program,), {"x": X})


Density = Callable[[Tensor, Tensor], None]
ORDERS: dict[str, Callable[[Density], Callable[..., None]]] = {
    "x, y": lambda fn: lambda x, y: fn(x, y),
    "y, x": lambda fn: lambda y, x: fn(x, y),
    "x, factor=1.0, y=None": lambda fn: lambda x, factor=1.0, y=None: fn(factor * x, y),
    "y, factor=1.0, x=None": lambda fn: lambda y, factor=1.0, x=None: fn(factor * x, y),
    "x, *, y": lambda fn: lambda x, *, y: fn(x, y),
    "*, factor=1.0, y, x": lambda fn: lambda *, factor=1.0, y, x: fn(factor * x, y),
    "x=None, y=None": lambda fn: lambda x=None, y=None: fn(x, y),
}
"""Signatures of a model and of its guide."""


def in_order(name: str) -> Made:
    """Return a regression with a latent whose model and guide have one of the signatures."""
    decoder, encoder = noisy(4, 1), noisy(4, 4)

    def model(x: Tensor, y: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 0.8).to_event(1), obs=x)
            loc = decoder(torch.cat([z, x.expand_as(z)], -1))[..., 0]
            pyro.sample("y", dist.Normal(loc, 0.3), obs=y)

    def guide(x: Tensor, y: Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            pyro.sample("z", gaussian(encoder(torch.cat([x, y[:, None], x[:, :1] * y[:, None]], -1))))

    parts = ORDERS[name](model), ORDERS[name](guide)
    return Made(parts, (decoder, encoder), {"x": X[:, :2], "y": X[:, 2]})


SHAPES: dict[str, Callable[[], Made]] = {
    make.__name__: make
    for make in (
        matrix_latent,
        scalars,
        plate_outside,
        plate_inside,
        two_observations,
        labels_behind_a_number,
        chain,
        constrained,
        switches,
        masked,
        correlated,
        absolute,
        transformed,
        subsampled,
        pyro_modules,
    )
}
SHAPES |= {f"inner_switches, guided: {guided}": partial(inner_switches, guided) for guided in (True, False)}
SHAPES |= {f"signature {name}": partial(in_order, name) for name in ORDERS}
