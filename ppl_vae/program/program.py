"""The definition of a program: an object with ``model`` and ``guide``, both plain Pyro, or two functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.program.arguments import argument_for_x, array_names, named_parameters, takes_any, taking
from ppl_vae.program.binding import read_structure
from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.missing import with_missing
from ppl_vae.program.modules import owned_modules, recorded_modules, with_shown
from ppl_vae.program.obs_masks import UNSEEN, with_obs_masks
from ppl_vae.program.plates import SizedPlates, with_sized_plates
from ppl_vae.program.process import Precision
from ppl_vae.program.rescaling import Scalings, with_scalings
from ppl_vae.program.runner import Batch, Runner, Store
from ppl_vae.program.shared import with_globals
from ppl_vae.program.shared_factors import with_shared_factors
from ppl_vae.program.traces import is_factor, sample_sites


class Program:
    """A generative model and its guide. Nothing is run before the program is bound to data, see ``bind``.

    Args:
        model: an object with ``model`` and optionally ``guide`` (normally an ``nn.Module``), or a function.
        guide: the guide, if ``model`` is a function.
        data_plate: the name of the plate that holds one datum each; by default it is found from the trace.

    Attributes:
        name: the name of the class or the function, for messages.
        module: the modules that model and guide use, as far as they are known, see ``learn``.
        store: the values of the parameters that ``pyro.param`` makes.
        sizes_plates: if True, its plates are run with the sizes of ``SizedPlates``.
        has_factors: if True, it has factors, see ``with_shared_factors``.
        has_obs_masks: if True, some of its sites may have an ``obs_mask``, see ``with_obs_masks``.

    Example:
        >>> import pyro
        >>> import pyro.distributions as dist
        >>> import torch
        >>> def model(x):
        ...     with pyro.plate("data", len(x)):
        ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        >>> program = Program(model).bind((torch.zeros(3),))
        >>> program.structure.latents, program.log_prior_weights((torch.zeros(3),), num_samples=5).shape
        (('z',), torch.Size([5, 3]))
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
        self.closed_form: Callable[..., Tensor] | None = getattr(model, "log_evidence", None)
        self.module = owned_modules(self.model, self.guide)
        self.data_plate = data_plate
        self.store = Store()
        self.sizes_plates = self.has_obs_masks = self.has_factors = False

    def bind(
        self,
        template: Batch,
        *,
        arguments: Sequence[str] | None = None,
        masked: Sequence[str] = (),
        precision: Precision = "32-true",
        guided: bool = True,
        num_data: int | None = None,
        scalings: Scalings | None = None,
        check: Callable[[Runner, Batch], Any] | None = None,
    ) -> BoundProgram:
        """Run the program once on a few data, and return it with the structure that it has shown.

        Programs that are bound from one definition share its modules and its parameter store.

        Args:
            template: a few data, the arguments of ``model``.
            arguments: the names of these arrays, as ``arguments`` returns them; None passes them to model and guide by
                place.
            masked: the names of the arrays that may have holes, see ``with_missing``. Their masks, such as ``x_mask``,
                are the last of the arguments, in this order; a part of the program that names a mask as an argument
                gets it.
            precision: the precision at which the program runs.
            guided: if False, the guide is left out and has no part.
            num_data: the number of training data; if given, latents outside the data plate, which all data share, have
                a posterior of their own, see ``with_globals``.
            scalings: how arguments are standardised, see ``with_scalings``.
            check: a function that checks the parts of the program on the template before its structure is read.

        Raises:
            InputError: no plate, or more than one, can be the data plate; a discrete latent cannot be summed out; or
                what ``check`` raises.
        """
        self.store.precision = precision
        self.learn(template, arguments, masked, guided=guided)
        runner = self._runner(arguments, guided, masked)
        if scalings:
            runner = with_scalings(runner, template, scalings)
            if masked:  # whose Jacobian is that of whole data
                runner = replace(runner, closed_form=None)
        if self.has_obs_masks:
            runner = with_obs_masks(runner, template)
        if self.has_factors:
            runner = with_shared_factors(runner, template, num_data or len(template[0]))
        if num_data is not None:
            runner = with_globals(runner, template, num_data)
        if check is not None:
            check(runner, template)
        bound = BoundProgram(**vars(runner), template=template, structure=read_structure(runner, template))
        if not masked:
            return bound
        positions = [list(arguments or ()).index(name) for name in masked]
        return with_missing(bound, positions, masks_given=True)

    def learn(
        self,
        template: Batch,
        arguments: Sequence[str] | None = None,
        masked: Sequence[str] = (),
        *,
        guided: bool = True,
    ) -> bool:
        """Run the program once, and record what only a run shows: its modules, plates, masks and factors.

        The modules that it registers or calls, wherever they are kept, are added to ``module``. Their mode, device,
        precision and buffers follow the program from then on. A part of the program that fails is run as far as it
        goes. No generator, parameter or statistic moves.

        Args:
            template: a few data, the arguments of ``model``.
            arguments: their names, as in ``bind``.
            masked: the names of the arrays that may have holes, as in ``bind``.
            guided: if False, the guide is not run.

        Returns:
            True if there was a module that was not known before; it may be on another device than the data.

        Example:
            >>> import pyro
            >>> import pyro.distributions as dist
            >>> nets = {"mean": torch.nn.Linear(2, 2)}
            >>> def model(x):
            ...     mean = pyro.module("mean", nets["mean"])
            ...     with pyro.plate("data", len(x)):
            ...         pyro.sample("x", dist.Normal(mean(torch.zeros(2)), 1.0).to_event(1), obs=x)
            >>> program = Program(model)
            >>> nets["mean"] in set(program.module.modules())
            False
            >>> program.learn((torch.zeros(3, 2),)), nets["mean"] in set(program.module.modules())
            (True, True)
        """
        runner, known = self._runner(arguments, guided, masked), self.module
        plates = SizedPlates(len(template[0]))
        with torch.no_grad(), runner.running(seed="current", training=False), recorded_modules() as recorder, plates:
            store = pyro.get_param_store()
            for fn in (runner.model, runner.guide):
                if fn is not None:
                    with suppress(Exception), store.scope(store.get_state()):  # the check reports what is wrong
                        trace = poutine.trace(fn).get_trace(*template)
                        self.has_obs_masks |= any(name.endswith(UNSEEN) for name in trace.nodes)
                        self.has_factors |= any(map(is_factor, sample_sites(trace).values()))
            self.module = with_shown(known, recorder)
        self.sizes_plates = self.sizes_plates or plates.acted
        return self.module is not known

    def _runner(self, arguments: Sequence[str] | None, guided: bool, masked: Sequence[str] = ()) -> Runner:
        names = None if arguments is None else list(arguments)
        masks = [] if names is None else names[len(names) - len(masked) :]
        arrays = None if names is None else names[: len(names) - len(masked)]

        def part(function: Callable[..., Any] | None) -> Any:
            taken = None if function is None else taking(function, self.model, arrays, masks)
            return taken if taken is None or not self.sizes_plates else with_sized_plates(taken)

        guide = part(self.guide)
        closed_form = self.closed_form
        if closed_form is not None and set(masks) - {p.name for p in named_parameters(closed_form)}:
            closed_form = None  # it is of whole data
        return Runner(
            name=self.name,
            argument_names=self.argument_names,
            model=part(self.model),
            guide=guide if guided else None,
            module=self.module,
            store=self.store,
            data_plate=self.data_plate,
            closed_form=part(closed_form),
            left_out=None if guided else guide,
        )

    def arguments(self, available: Collection[str]) -> tuple[str, ...]:
        """Return the names of the arrays that ``model`` takes, in order: they are the names of its arguments.

        Raises:
            InputError: an argument without a default has no array.
        """
        return array_names(self.model, available, self.name)

    @property
    def required_names(self) -> set[str]:
        """The names of the arguments of model and guide that have no default."""
        functions = [function for function in (self.model, self.guide) if function is not None]
        return {p.name for function in functions for p in named_parameters(function) if p.default is p.empty}

    @property
    def argument_for_x(self) -> str | None:
        """The argument that takes the array "x" by its position, if it has another name; see ``array_names``."""
        return argument_for_x(self.model)

    @property
    def argument_names(self) -> tuple[str, ...]:
        """The names of all arguments of ``model``, including those with a default."""
        return ("x",) if takes_any(self.model) else tuple(p.name for p in named_parameters(self.model))
