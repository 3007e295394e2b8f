"""The check of a program before it is trained: each fault is reported in one sentence, with its place and remedy."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine

from ppl_vae.errors import InputError, reason, warn
from ppl_vae.program.arguments import as_written
from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.derived_guide import DerivedGuide, is_derived
from ppl_vae.program.faults import (
    check_density,
    check_observation,
    check_observed_shape,
    check_shape,
    check_support,
    compare,
    fixed_size,
    reject_point_mass,
    reject_subsampling,
    report_factors,
)
from ppl_vae.program.modules import REGISTERED
from ppl_vae.program.observations import replayed
from ppl_vae.program.program import Program
from ppl_vae.program.runner import Batch, Runner
from ppl_vae.program.traces import Structure, can_enumerate, is_factor, read_plates, sample_sites


def check(program: Program | BoundProgram, batch: Batch) -> BoundProgram:
    """Run a program once on a few data, with Pyro's validation on, and report what is wrong with it.

    Args:
        program: what is about to be trained.
        batch: any batch of its data; the first seven rows are used, so that few plates share their number.

    Returns:
        The program, bound to these rows if it was not bound before.

    Raises:
        InputError: model or guide fails; nothing is observed; no plate, or more than one, holds the data; a site
            lies outside it or in a plate that is subsampled within a datum; guide and model disagree; an
            observation has density zero or none; no parameter gets a gradient, or one that is not registered does.

    Warns:
        InputWarning: some parameters get no gradient; the guide has a factor, or draws from a part of the support.

    Example:
        >>> import pyro.distributions as dist
        >>> def model(x):
        ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        >>> check(Program(model), (torch.zeros(9),))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ppl_vae.errors.InputError: site 'z' of model lies outside the data plate 'data': move it inside, ...
    """
    batch = tuple(tensor[:7] for tensor in batch)
    if isinstance(program, Program):
        program = program.bind(batch, check=check_parts)
    else:
        check_parts(program, batch)
    with program.running(seed="current", training=True), _buffers_restored(program):
        guide, model = replayed(program, batch)
        if program.shared_factors is not None:
            names = ", ".join(map(repr, program.shared_factors.names))
            warn(
                f"the factor {names} of {program.name} lies outside the data plate: it counts once in training, for "
                f"all data together; elbo and evidence are without it"
            )
        for name, site in model.items():
            check_support(program.name, site, guide.get(name))
            check_observation(program.structure, site)
        _check_masks(program, batch)
        _check_gradients(program, batch)
    return program


def check_parts(program: Runner, batch: Batch) -> None:
    """Run model and guide each once: the part of the check that comes before a program is bound.

    Raises:
        InputError: as ``check`` does, of model and guide by themselves and beside each other.
    """
    batch = tuple(tensor[:7] for tensor in batch)
    with _trial_run(program):
        model, structure = _check_model(program, batch)
        if program.guide is None and set(structure.latents) - set(can_enumerate(model)):
            raise InputError(
                f"{program.name} has no guide, which guide='amortized' needs: write guide(self, x), which samples "
                f"{', '.join(map(repr, structure.latents))} given x"
            )
        if program.guide is not None:
            guide = _run(program, "guide", program.guide, batch)
            for site in sample_sites(guide).values():
                check_shape(structure, site)
                reject_point_mass(program.name, site)
            compare(program.name, model, guide)
            report_factors(program.name, guide)


def check_model(program: Runner, batch: Batch) -> None:
    """Run the model once: the part of the check that needs no guide, before one is derived.

    Raises:
        InputError: as ``check`` does, of the model alone.
    """
    with _trial_run(program):
        _check_model(program, tuple(tensor[:7] for tensor in batch))


@contextmanager
def _trial_run(program: Runner) -> Iterator[None]:
    """Run with Pyro's validation on, and leave nothing behind."""
    with (
        program.running(seed="current", training=True),
        torch.no_grad(),
        _buffers_restored(program),
        pyro.validation_enabled(True),
    ):
        yield


def _check_model(program: Runner, batch: Batch) -> tuple[poutine.Trace, Structure]:
    model = _run(program, "model", program.model, batch)
    structure = read_plates(program.name, program.model, batch, program.data_plate, model)
    for site in sample_sites(model).values():
        check_shape(structure, site)
        reject_subsampling(program.name, site, structure.data_plate)
        check_observed_shape(structure, site)
        check_density(structure, site)
    return model, structure


def check_batch(program: BoundProgram, batch: Batch) -> None:
    """Check that densities can be computed on a batch of this size, in training and with several draws.

    Raises:
        InputError: the densities cannot be computed; batch normalisation, for example, cannot train on a single datum.
    """
    with torch.no_grad(), program.running(seed=0), _buffers_restored(program):
        for training, draws in ((True, 1), (False, 2)):
            with program.running(training=training):
                try:
                    program.weighted_draws(batch, draws)
                except InputError:
                    raise
                except Exception as error:
                    remedy = fixed_size(error) or f"{reason(error)}: mend the program or choose another batch size"
                    raise InputError(
                        f"{program.name} fails on a batch of {len(batch[0])} data with {draws} draws each: {remedy}"
                    ) from error


@contextmanager
def _buffers_restored(program: Runner) -> Iterator[None]:
    """Restore buffers, such as the running statistics of batch normalisation, after the block."""
    before = {buffer: buffer.clone() for buffer in program.module.buffers()}
    try:
        yield
    finally:
        for buffer, value in before.items():
            buffer.copy_(value)


def _run(program: Runner, part: str, fn: Callable[..., Any], batch: Batch) -> poutine.Trace:
    """Trace a user's function; an error becomes one line that names the user's own line of code."""
    try:
        trace = poutine.trace(fn).get_trace(*batch)
        for site in sample_sites(trace).values():
            if not site["is_observed"]:  # observations have a check of their own, with a better message
                site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
        return trace
    except InputError:
        raise
    except Exception as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in batch)
        why = fixed_size(error) or reason(error)
        if why.endswith("but found invalid values:"):
            why += " look for NaN or for a scale that is not positive"
        line = _user_line(error, fn)
        raise InputError(f"{program.name}.{part} fails on data of shape {shapes}{line}: {why}") from error


def _user_line(error: Exception, fn: Callable[..., Any]) -> str:
    """Return the innermost line of the traceback that lies in the file of the user's function."""
    written = as_written(inspect.unwrap(fn))
    written = getattr(written, "func", written)
    code = getattr(getattr(written, "forward", written), "__code__", None)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if code and f.filename == code.co_filename]
    return f" at {frames[-1].filename}:{frames[-1].lineno} `{frames[-1].line}`" if frames else ""


@torch.no_grad()
def _check_masks(program: BoundProgram, batch: Batch) -> None:
    """Check that the guide masks what the model masks; otherwise a latent counts in one density only."""
    guide, model = (sample_sites(trace) for trace in program.traces(batch, 1)[:2])
    for name, site in guide.items():
        if is_derived(site) or is_factor(site):
            continue
        masks = [torch.as_tensor(True if s["mask"] is None else s["mask"]) for s in (site, model[name])]
        if not torch.equal(*(mask.expand(site["fn"].batch_shape) for mask in masks)):
            raise InputError(
                f"guide and model of {program.name} disagree at {name!r}: it is masked in the one and counts in the "
                f"other; use the same poutine.mask in both"
            )


def _check_gradients(program: BoundProgram, batch: Batch) -> None:
    """Check that the log weights are finite, and that every parameter of the program's modules can be trained.

    A parameter that these arguments do not train is reported by an ``InputWarning``: a part that is reached only
    without labels, or that runs without a gradient, may be meant.
    """
    draws = program.weighted_draws(batch)
    finite = torch.isfinite(draws.log_weight[0])
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0])
        raise InputError(
            f"the log weight of row {row} under {program.name} is {draws.log_weight[0, row].item()} before any "
            f"training: look for a scale of zero, a log of zero or an overflow in model or guide"
        )
    parameters = program.parameters()
    registered, idle = {id(tensor) for tensor in parameters.values()}, _parameters_left_out(program, batch)
    surrogate = draws.log_weight.sum() + draws.shared + (0 if draws.score is None else draws.score.sum())
    unmoved = _without_gradient(surrogate, [*parameters.values(), *program.module.parameters()])
    for name, tensor in program.module.state_dict(keep_vars=True).items():
        if tensor.requires_grad and id(tensor) not in registered | unmoved:
            if not tensor.is_contiguous():
                raise InputError(
                    f"the parameter {name!r} of {program.name} is not contiguous, so that Pyro trains a copy of it and "
                    f"not the parameter itself: make it with nn.Parameter(values.contiguous())"
                )
            owner, has_module, _ = name.removeprefix(f"{REGISTERED}.").partition(".")
            remedy = f"pyro.module({owner!r}, self.{owner})" if has_module else 'pyro.module("program", self)'
            raise InputError(
                f"the parameter {name!r} of {program.name} would never be trained: register its module, "
                f"{remedy}, in the model (decoder) or the guide (encoder)"
            )
    if not parameters and not isinstance(program.guide, DerivedGuide):  # which has no parameters, only lambda
        raise InputError(f"{program.name} has no parameters to train: use pyro.module or pyro.param in model or guide")
    still = [name for name, parameter in parameters.items() if id(parameter) in unmoved - idle]
    if still and len(still) == len(parameters):
        raise InputError(
            f"no parameter of {program.name} gets a gradient: no density depends on {still[0]!r}; look for no_grad and "
            f"detach"
        )
    if still:
        what = f"the parameter {still[0]!r}" if len(still) == 1 else f"{len(still)} parameters, such as {still[0]!r},"
        warn(
            f"{what} of {program.name} get{'s' * (len(still) == 1)} no gradient from these arguments and will not "
            f"change: nothing that is computed from it reaches a density; use it, or freeze it with "
            f"requires_grad_(False)"
        )


def _without_gradient(surrogate: torch.Tensor, parameters: Sequence[torch.Tensor]) -> set[int]:
    """Return the identities of the parameters that a number does not depend on."""
    trained = [tensor for tensor in parameters if tensor.requires_grad]
    if not surrogate.requires_grad:
        return {id(tensor) for tensor in trained}
    gradients = torch.autograd.grad(surrogate, trained, allow_unused=True)
    return {id(tensor) for tensor, gradient in zip(trained, gradients, strict=True) if gradient is None}


def _parameters_left_out(program: Runner, batch: Batch) -> set[int]:
    """Return the identities of the parameters that only the user's own guide uses, if it is left out."""
    if program.left_out is None:
        return set()
    store, modules = pyro.get_param_store(), list(program.module.parameters())
    if isinstance(program.guide, DerivedGuide):
        batch, _ = program.guide.parameters(*batch)
    with store.scope(store.get_state()):  # a copy
        try:
            trace = poutine.trace(program.left_out).get_trace(*batch)
            terms = [site["fn"].log_prob(site["value"]).sum() for site in sample_sites(trace).values()]
            unmoved = _without_gradient(torch.stack(terms).sum(), modules) if terms else {id(p) for p in modules}
        except Exception:  # a guide that is left out may be faulty
            return {id(tensor) for tensor in modules}
        own = dict(store.named_parameters())
        registered = {id(own[name]) for name in trace.param_nodes if name in own}
        return registered | {id(tensor) for tensor in modules} - unmoved
