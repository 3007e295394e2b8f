"""What a program is, and how it becomes plain functions of tensors.

A program is an object with ``model(*batch)`` and ``guide(*batch)``, both plain Pyro, or two functions. This is the
only room that knows Pyro's handlers and its parameter store. What it hands out are tensors with the draws in
front and the data behind them: ``(K, B)`` log weights, ``(K, B, ...)`` draws.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_vae.errors import InputError, nearest
from ppl_vae.program.draws import Draws, WeightedDraws
from ppl_vae.program.handlers import Detached, Generate, Given, enumerated, is_scored, posterior_of_discrete
from ppl_vae.program.modules import owned_modules
from ppl_vae.program.precision import Precision, at_precision
from ppl_vae.program.seeds import seeded
from ppl_vae.program.store import Store
from ppl_vae.program.traces import Structure, can_enumerate, read_structure, sample_sites
from ppl_vae.program.trial import draws_agree, sums_agree

Batch = tuple[Tensor, ...]


class Program:
    """A generative model and its guide, as functions of tensors.

    Args:
        model: an object with ``model`` and, if it likes, ``guide`` (normally an ``nn.Module``), or a function.
        guide: the guide, where ``model`` is a function.
        data_plate: name of the plate that holds one datum each; found from the trace where it is not given.

    Example:
        >>> import pyro.distributions as dist
        >>> def model(x):
        ...     with pyro.plate("data", len(x)):
        ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        >>> def guide(x):
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))
        >>> program = Program(model, guide)
        >>> log_weights = program.log_weights((torch.zeros(3),), num_samples=5)
        >>> log_weights.shape                          # the guide is the posterior: every weight is log p(x)
        torch.Size([5, 3])
        >>> bool(torch.allclose(log_weights, dist.Normal(0.0, 2**0.5).log_prob(torch.zeros(3))))
        True
    """

    def __init__(self, model: Any, guide: Callable[..., Any] | None = None, *, data_plate: str | None = None) -> None:
        if inspect.isclass(model):
            raise InputError(f"{model.__name__} is a class: make a program of it, {model.__name__}(...)")
        if guide is None and hasattr(model, "model"):
            self.name = type(model).__name__
            self.model: Callable[..., Any] = model.model
            self.guide: Callable[..., Any] | None = getattr(model, "guide", None)
        elif callable(model):
            self.name = getattr(model, "__name__", type(model).__name__)
            self.model, self.guide = model, guide
        else:
            raise InputError(
                f"a program is an object with model(x) and guide(x), or two functions; "
                f"got {type(model).__name__}, which has no 'model'"
            )
        self._closed_form: Callable[..., Tensor] | None = getattr(model, "log_evidence", None)
        self.module = owned_modules(self.model, self.guide)
        self.data_plate = data_plate
        self._structure: Structure | None = None
        self._store = Store()
        self.global_posterior: Any = None
        self.left_out: Callable[..., Any] | None = None  # a guide of the user's that has no part, where there is one

    @property
    def precision(self) -> Precision:
        """At which it runs; the same for the programs that are derived from it."""
        return self._store.precision

    @precision.setter
    def precision(self, precision: Precision) -> None:
        self._store.precision = precision

    # ------------------------------------------------------------------------------------------ arguments, state

    def arguments(self, available: Collection[str]) -> tuple[str, ...]:
        """The arrays that ``model`` takes, in its order: the names of its arguments are names of arrays.

        A model of a single argument takes the array "x" where none has the argument's own name. Arguments with a
        default are passed from the left for as long as the data have them.

        Raises:
            InputError: an argument without a default has no array.
        """
        parameters = self._model_parameters()
        required = [p.name for p in parameters if p.default is p.empty]
        if len(required) == 1 and required[0] not in available and "x" in available:
            return ("x",)
        names: list[str] = []
        for parameter in parameters:
            if parameter.name in available:
                names.append(parameter.name)
            elif parameter.default is parameter.empty:
                raise InputError(
                    f"model({', '.join(self.argument_names())}) of {self.name} needs an array {parameter.name!r}, "
                    f"which the data do not have: rename the one or the other; {nearest(parameter.name, available)}"
                )
            else:
                break
        if not names:
            raise InputError(f"{self.name}.model takes no data: give it an argument, model(self, x)")
        return tuple(names)

    def argument_names(self) -> tuple[str, ...]:
        """Names of all arguments of ``model``, those with a default too."""
        return tuple(p.name for p in self._model_parameters())

    def _model_parameters(self) -> list[inspect.Parameter]:
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        fn = self.model.forward if isinstance(self.model, nn.Module) else self.model
        return [p for p in inspect.signature(fn).parameters.values() if p.kind in positional]

    @contextmanager
    def scope(self, *, training: bool | None = None) -> Iterator[None]:
        """Run in this program's own parameter store and at its precision; global state is as it was afterwards.

        Args:
            training: if given, the modules are in this mode (dropout, batch norm) and Pyro's validation is off. Only
                in training are matrix products in bfloat16.
        """
        with ExitStack() as stack:
            stack.enter_context(self._store.scope())
            stack.enter_context(at_precision(self.precision, training=training))
            if training is not None:
                for module in self.module.modules():
                    stack.callback(setattr, module, "training", module.training)
                stack.enter_context(pyro.validation_enabled(False))
                self.module.train(training)
            yield

    def parameters(self, batch: Batch) -> dict[str, Tensor]:
        """What training moves: names to leaf tensors, in unconstrained space, each the module's own tensor.

        Args:
            batch: any batch; Pyro's parameters exist once the program has run.
        """
        self.structure(batch)
        with self.scope():
            first: dict[int, tuple[str, Tensor]] = {}  # a module may be registered twice, under two names
            for name, tensor in pyro.get_param_store().named_parameters():
                first.setdefault(id(tensor), (name.replace("$$$", "."), tensor))
            return dict(first.values())

    def state(self, batch: Batch) -> dict[str, Tensor]:
        """Everything that a fit changes: the modules' parameters and buffers, and ``pyro.param`` values."""
        modules = self.module.state_dict(keep_vars=True)
        held = {id(tensor) for tensor in modules.values()}
        free = {f"param.{k}": v for k, v in self.parameters(batch).items() if id(v) not in held}
        return {f"module.{k}": v.detach() for k, v in modules.items()} | {k: v.detach() for k, v in free.items()}

    def load_state(self, batch: Batch, state: Mapping[str, Tensor]) -> None:
        """Copy a ``state`` back in place.

        Raises:
            InputError: a name or a shape differs: it is the state of another program. Nothing is changed then.
        """
        own = self.state(batch)
        if differing := sorted(own.keys() ^ state.keys()):
            name = differing[0]
            whose = "lacks" if name in own else "has"
            raise InputError(f"the parameters belong to another model than {self.name}: the file {whose} {name!r}")
        for name, tensor in own.items():
            if tensor.shape != state[name].shape:
                raise InputError(
                    f"the parameters belong to another model than {self.name}: {name!r} has shape "
                    f"{tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
                )
        for name, tensor in own.items():
            tensor.copy_(state[name])

    # ------------------------------------------------------------------------------------------ structure

    def structure(self, batch: Batch) -> Structure:
        """The program's data plate and sites, found when it first runs, and kept.

        That run draws the initial values of ``pyro.param``, if they are random, from torch's generator as it is.

        Raises:
            InputError: no plate, or more than one, can be the data plate.
        """
        if self._structure is None:
            with torch.no_grad(), seeded(None), self.scope(training=False):
                structure = read_structure(self.name, self.model, batch, self.data_plate)
                discrete = can_enumerate(poutine.trace(self.model).get_trace(*batch))
                guided: set[str] = set()
                if self.guide is not None:  # run, so that its parameters exist
                    guided = {name for name, _ in sample_sites(poutine.trace(self.guide).get_trace(*batch))}
                summed = tuple(name for name in discrete if name not in guided)
                self._structure = structure._replace(summed=summed)
                if structure.latents and not draws_agree(self, batch):
                    self._structure = self._structure._replace(draws_by="repeat")
                if summed and not sums_agree(self, batch, summed):
                    self._structure = None
                    raise InputError(
                        f"{self.name}: the discrete latent {summed[0]!r} cannot be summed out, for its values lie in "
                        f"a dimension in front that a network or an index does not expect: let leading dimensions be "
                        f"free (dim=-1, x[..., i]), or sample {summed[0]!r} in the guide"
                    )
                collapsed = tuple(name for name in discrete if name in guided)
                if collapsed and sums_agree(self, batch, collapsed):  # else they are sampled, with more variance
                    self._structure = self._structure._replace(collapsed=collapsed)
        return self._structure

    # ------------------------------------------------------------------------------------------ densities

    def weighted_draws(
        self, batch: Batch, num_samples: int = 1, *, tempered: bool = False, reparameterised: bool = True
    ) -> WeightedDraws:
        """Draw ``K`` times from the guide and weigh: log p(x, z) - log q(z | x) for every draw and datum.

        Differentiable: through reparameterised draws by the path, and for other sites by the score function, whose
        log q is therefore detached in ``log_weight`` and returned as ``score`` (as ``pyro.infer.Trace_ELBO`` does).

        Args:
            batch: the arguments of ``model`` and ``guide``.
            num_samples: ``K``.
            tempered: keep the scales of ``poutine.scale``, as a training objective does; without, the density is
                the program's own, as evidence needs. The scale of the data plate is undone in both.
            reparameterised: False takes no gradient by the path: every site of the guide has the score function, but
                for point masses, which are functions of the sites before them.
        """
        with self.scope():
            structure = self.structure(batch)
            guide, model = self.traces(batch, num_samples, reparameterised=reparameterised)
            scored = [name for name, site in sample_sites(guide) if is_scored(site)]
            log_p = structure.log_density(model, num_samples, tempered=tempered)
            log_q = structure.log_density(guide, num_samples, tempered=tempered, leave_out=scored)
            if not scored:
                return WeightedDraws(log_p - log_q, None)
            others = [name for name, _ in sample_sites(guide) if name not in scored]
            score = structure.log_density(guide, num_samples, tempered=tempered, leave_out=others)
            return WeightedDraws(log_p - log_q - score.detach(), score)

    def log_weights(self, batch: Batch, num_samples: int = 1) -> Tensor:
        """log p(x, z) - log q(z | x) of ``K`` draws from the guide, plate scales undone: ``(K, B)``, nats.

        Discrete latents are summed out where they can be, in q as well as in p, so that only the others are random.
        """
        with self.scope():
            structure = self.structure(batch)
            if not structure.collapsed:
                return self.weighted_draws(batch, num_samples).log_weight
            drawn = dict(sample_sites(self.guide_trace(batch, num_samples)))
            values = {name: site["value"] for name, site in drawn.items() if name not in structure.collapsed}
            model = self.run(self.model, batch, num_samples, values, summed=structure.discrete)
            guide = self.run(self.guide or empty_guide, batch, num_samples, values, summed=structure.collapsed)
            return structure.log_density(model, num_samples) - structure.log_density(guide, num_samples)

    def log_prior_weights(self, batch: Batch, num_samples: int = 1) -> Tensor:
        """log p(x | z) of ``K`` draws z from the prior: ``(K, B)``, nats; discrete latents are summed out."""
        with self.scope():
            structure = self.structure(batch)
            model = self.run(self.model, batch, num_samples)
            if structure.discrete:  # drawn first: beside an enumerated latent, every value of it would draw another z
                known = structure.discrete + structure.observed
                values = {name: site["value"] for name, site in sample_sites(model) if name not in known}
                model = self.run(self.model, batch, num_samples, values, summed=structure.discrete)
            log_joint = structure.log_density(model, num_samples)
            return log_joint - structure.log_density(model, num_samples, leave_out=structure.observed)

    def has_log_evidence(self, batch: Batch) -> bool:
        """Whether the exact evidence is known: ``log_evidence`` will answer."""
        structure = self.structure(batch)
        known = self._closed_form is not None or set(structure.latents) <= set(structure.discrete)
        return known and self.global_posterior is None

    def log_evidence(self, batch: Batch) -> Tensor:
        """The exact log p(x), ``(B,)``, nats: the program's own ``log_evidence``, or the sum over discrete latents.

        Raises:
            InputError: neither is there.
        """
        with self.scope():
            if self._closed_form is not None:
                return self._closed_form(*batch)
            structure = self.structure(batch)
            if others := [name for name in structure.latents if name not in structure.discrete]:
                raise InputError(
                    f"the exact evidence of {self.name} is not known: its latent {others[0]!r} cannot be enumerated; "
                    f"write log_evidence(self, x), or estimate it (iwae, ais)"
                )
            return structure.log_density(self.run(self.model, batch, 1, summed=structure.discrete), 1)[0]

    def traces(
        self, batch: Batch, num_samples: int, *, reparameterised: bool = True
    ) -> tuple[poutine.Trace, poutine.Trace]:
        """Traces of the guide, and of the model on the guide's draws; latents that it leaves out are enumerated."""
        with nullcontext() if reparameterised else Detached():
            guide = self.guide_trace(batch, num_samples)
        values = {name: site["value"] for name, site in sample_sites(guide)}
        return guide, self.run(self.model, batch, num_samples, values, summed=self.structure(batch).summed)

    def run(
        self,
        fn: Callable[..., Any],
        batch: Batch,
        num_samples: int = 1,
        values: Mapping[str, Tensor] | None = None,
        *,
        summed: Collection[str] = (),
    ) -> poutine.Trace:
        """A trace of the model or the guide with ``K`` draws: some latents given, some discrete ones enumerated."""
        outer, repeated = self._outer(batch, num_samples)
        fn = enumerated(Given(values or {})(outer(fn)), summed, -2 - self.structure(batch).plate_nesting)
        return poutine.trace(fn).get_trace(*repeated)

    def guide_trace(self, batch: Batch, num_samples: int) -> poutine.Trace:
        """A run of the guide with ``K`` draws."""
        structure = self.structure(batch)
        if self.guide is None and set(structure.latents) - set(structure.summed):
            raise InputError(f"{self.name} has no guide: write guide(self, x), which samples the model's latent sites")
        return self.run(self.guide or empty_guide, batch, num_samples)

    def _outer(self, batch: Batch, num_samples: int) -> tuple[Callable[..., Any], Batch]:
        """How ``K`` draws at once are taken: a handler that adds the outer plate, or a batch repeated ``K`` times."""
        structure = self.structure(batch)
        if num_samples == 1:
            return (lambda fn: fn), batch
        if structure.draws_by == "repeat":
            return (lambda fn: fn), tuple(t.repeat(num_samples, *[1] * (t.dim() - 1)) for t in batch)
        return pyro.plate("_draws", num_samples, dim=-1 - structure.plate_nesting), batch

    # ------------------------------------------------------------------------------------------ draws

    @torch.no_grad()
    def prior(self, batch: Batch, num_samples: int = 1) -> Draws:
        """Draws from p(z) p(x | z). Of the batch its size counts, and conditions such as labels."""
        with self.scope():
            return self.draws(batch, self.run(Generate()(self.model), batch, num_samples), num_samples)

    @torch.no_grad()
    def posterior(self, batch: Batch, num_samples: int = 1) -> Draws:
        """Draws from the guide q(z | x), with the posterior predictive p(x' | z) of every observed site."""
        return self.weighted_posterior(batch, num_samples, weighted=False)[1]

    @torch.no_grad()
    def weighted_posterior(self, batch: Batch, num_samples: int = 1, *, weighted: bool = True) -> tuple[Tensor, Draws]:
        """The same draws, and their log weights log p(x, z) - log q(z | x), ``(K, B)``, nats; zeros if not asked for.

        Discrete latents that the guide leaves out are summed out of the weights, and drawn given the others.
        """
        with self.scope():
            structure = self.structure(batch)
            guide = self.guide_trace(batch, num_samples)
            values = {name: site["value"] for name, site in sample_sites(guide)}
            log_weight = torch.zeros(num_samples, len(batch[0]))
            if weighted:
                model = self.run(self.model, batch, num_samples, values, summed=structure.summed)
                log_p, log_q = (structure.log_density(trace, num_samples) for trace in (model, guide))
                log_weight = (log_p - log_q).expand(num_samples, len(batch[0]))
            if structure.summed:
                outer, repeated = self._outer(batch, num_samples)
                given = Given(values)(outer(self.model))
                values |= posterior_of_discrete(given, structure.summed, -2 - structure.plate_nesting, repeated)
            trace = self.run(Generate()(self.model), batch, num_samples, values)
            return log_weight, self.draws(batch, trace, num_samples)

    def draws(self, batch: Batch, trace: poutine.Trace, num_samples: int) -> Draws:
        """What a run of the model has drawn, by site."""
        structure, draws = self.structure(batch), Draws({}, {}, {}, {})
        for name, site in sample_sites(trace):
            value = structure.value(site, num_samples)
            if not site["infer"].get("was_observed"):
                draws.latents[name] = value
            elif value.numel():  # pyro.factor has nothing to draw
                draws.observed[name] = value
                draws.means[name] = structure.mean(site, num_samples).detach()  # it may be a parameter itself
                given = site["infer"]["obs"].expand(site["fn"].shape())
                draws.data[name] = structure.value(site | {"value": given}, num_samples)[0]
        return draws


def empty_guide(*batch: Tensor) -> None:
    """The guide of a model without latents."""
