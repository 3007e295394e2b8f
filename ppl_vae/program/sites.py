"""A program in words: its sites, its parameters, and a drawing of which site depends on which."""

from __future__ import annotations

import importlib.util
import inspect
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.infer import inspect as relations

from ppl_vae.errors import InputError, reason
from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.derived_guide import JOINT
from ppl_vae.program.handlers import is_point_mass
from ppl_vae.program.partly_observed import PartlyObserved
from ppl_vae.program.traces import Site, is_factor, sample_sites, support

SERIES = 3
"""The number of alike, numbered sites, such as z_0, z_1, z_2, from which they are described and drawn as a series."""
MANY = 40
"""The number of latent sites from which a faster form is named."""
DRAWN = 3
"""The number of sites of a series that are drawn."""


class SiteRow(NamedTuple):
    """A sample statement, or a series of them that are alike but for a number in their names."""

    name: str
    """The name, such as ``z``, or of a series ``z_0 ... z_5``."""
    role: str
    """``latent``, ``observed``, ``summed out`` (a discrete latent that no guide samples), ``global`` or ``factor``."""
    distribution: str
    """The distribution in words, such as ``Normal, 10 numbers``."""
    shape: tuple[int, ...]
    """The shape of the value of one datum, or of a global latent."""
    support: str
    """The support in words; empty if the distribution does not have one."""
    plates: tuple[str, ...]
    """The plates around the site, the outermost first; those of a fixed size with their size."""
    names: tuple[str, ...]
    """The names of the sites of the series; a single name if the site is not in a series."""


class ModuleRow(NamedTuple):
    """A module or a single parameter, by the name that ``pyro.module`` or ``pyro.param`` gives it."""

    name: str
    part: str
    """The part that uses it: ``model``, ``guide`` or ``model and guide``."""
    num_parameters: int


@torch.no_grad()
def describe_sites(program: BoundProgram) -> list[SiteRow]:
    """Describe the sites of the model in the order in which they are sampled; no global state changes.

    Args:
        program: the program.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> for row in describe_sites(Program(VAE(data_dim=6, latent_dim=2)).bind((torch.zeros(3, 6),))):
        ...     print(row.name, row.role, row.distribution, row.shape, row.support, row.plates, sep="; ")
        z; latent; Normal, 2 numbers; (2,); real numbers; ('data',)
        x; observed; Bernoulli, 6 numbers; (6,); 0 or 1; ('data',)
    """
    return _joined(_describe_each(program))


@torch.no_grad()
def describe_structure(program: BoundProgram) -> dict[str, str]:
    """Describe what a fit's parameters mean: the role, distribution and shape of each site, by part and name.

    Two programs whose descriptions differ give other meanings to the same parameters.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> describe_structure(Program(VAE(data_dim=6, latent_dim=2)).bind((torch.zeros(3, 6),)))
        {'model z': 'latent Normal (2,)', 'model x': 'observed Bernoulli (6,)', 'guide z': 'Normal'}
    """
    rows = {
        f"model {row.name}": f"{row.role} {row.distribution.split(',')[0]} {row.shape}"
        for row in _describe_each(program)
    }
    return rows | {f"guide {name}": words for name, words in describe_posterior(program).items()}


def _describe_each(program: BoundProgram) -> list[SiteRow]:
    structure, rows = program.structure, []
    with _as_written(program) as model:
        sites = sample_sites(poutine.trace(model).get_trace(*program.template))
    for name, site in sites.items():
        plates = {frame.name: frame for frame in site["cond_indep_stack"]}
        local, value = structure.data_plate in plates, site["value"]
        shape = tuple(structure.value(site, 1).shape[2:] if local else value.shape)
        if site["is_observed"]:
            role = "observed" if value.numel() else "factor"
        elif not local:
            role = "global"
        else:
            role = "summed out" if name in structure.summed else "latent"
        around = tuple(k if k == structure.data_plate else f"{k} of {frame.size}" for k, frame in plates.items())
        words = "a weight of the draw" if role == "factor" else _distribution(site, shape)
        rows.append(SiteRow(name, role, words, shape, _support(site), around, (name,)))
    return rows


@torch.no_grad()
def describe_posterior(program: BoundProgram) -> dict[str, str]:
    """Describe the distributions of the guide's sites by name, including those of global latents.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> describe_posterior(Program(VAE(data_dim=6, latent_dim=2)).bind((torch.zeros(3, 6),)))
        {'z': 'Normal'}
    """
    described = {} if program.global_posterior is None else dict.fromkeys(*program.global_posterior.described)
    if program.guide is not None:
        with program.running(seed=0, training=False):
            sites = sample_sites(poutine.trace(program.guide).get_trace(*program.template))
        joint = sites.pop(JOINT, None)
        for name, site in sites.items():
            if is_factor(site):
                continue
            part = joint is not None and is_point_mass(site["fn"])
            described[name] = f"part of a joint {_kind(joint['fn'])}" if joint and part else _kind(site["fn"])
    return described


@torch.no_grad()
def describe_modules(program: BoundProgram) -> list[ModuleRow]:
    """Describe what training moves, by module, in the order in which the program uses them.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> describe_modules(Program(VAE(data_dim=6, latent_dim=2, hidden=(8,))).bind((torch.zeros(3, 6),)))
        [ModuleRow(name='decoder', part='model', num_parameters=78), ModuleRow(name='encoder', part='guide', ...)]
    """
    parts: dict[str, list[str]] = {}
    with program.running(seed=0, training=False):
        for part, fn in (("model", program.model), ("guide", program.guide)):
            for name, site in () if fn is None else poutine.trace(fn).get_trace(*program.template).nodes.items():
                if site["type"] == "param":
                    parts.setdefault(name, []).append(part)
        sizes: dict[int, tuple[str, int]] = {}  # a module may be registered twice, under two names
        for name, tensor in pyro.get_param_store().named_parameters():
            sizes.setdefault(id(tensor), (name, tensor.numel()))
    total: dict[str, int] = {}
    taken: dict[str, list[str]] = {}
    for name, size in sizes.values():
        owner = name.partition("$$$")[0]
        total[owner] = total.get(owner, 0) + size
        taken.setdefault(owner, []).extend(parts.get(name, []))
    return [
        ModuleRow(owner, " and ".join(part for part in ("model", "guide") if part in taken[owner]), size)
        for owner, size in total.items()
    ]


def hint_at_chains(program: BoundProgram) -> list[str]:
    """Return a sentence about a faster form if a program has many latents a datum, such as one for each time step.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> hint_at_chains(Program(VAE(data_dim=6, latent_dim=2)).bind((torch.zeros(3, 6),)))
        []
    """
    latents = program.structure.latents
    if len(latents) < MANY or program.closed_form is not None:
        return []
    return [
        f"{program.name} has {len(latents)} latent sites, {latents[0]!r} to {latents[-1]!r}: if they are the steps "
        f"of a chain, make them one site, for example a ppl_vae.networks.GaussianChain, which is several times faster"
    ]


def render_graph(program: BoundProgram) -> str | None:
    """Draw the graphical model as SVG, as ``pyro.render_model`` does, with the first few sites of a long series.

    Args:
        program: the program.

    Returns:
        The text of an ``<svg>`` element; None where the Python package graphviz or its program ``dot`` is missing.

    Raises:
        InputError: Pyro cannot find which site depends on which, or ``dot`` fails.
    """
    if importlib.util.find_spec("graphviz") is None or shutil.which("dot") is None:
        return None
    series = {name: row for row in describe_sites(program) for name in row.names[DRAWN:]}
    try:
        with _as_written(program) as model:
            related = relations.get_model_relations(model, program.template, include_deterministic=True)
        graph = relations.render_graph(relations.generate_graph_specification(_without(related, series)))
        for attributes in (graph.graph_attr, graph.node_attr):  # they stand before the nodes, as graph.attr would not
            attributes.update(fontname="Helvetica", fontsize="12")
        graph.graph_attr["bgcolor"] = "transparent"
        drawn = graph.pipe(format="svg", encoding="utf-8")
    except Exception as error:
        raise InputError(f"the graphical model of {program.name} cannot be drawn ({reason(error)})") from error
    return drawn[drawn.index("<svg") :].rstrip().replace('fill="gray"', 'fill="lightgray"')  # a name on it is legible


@contextmanager
def _as_written(program: BoundProgram) -> Iterator[Any]:
    """Yield the model as its author wrote it, including latents that all data share, to be run inside the block."""
    model = program.model if program.global_posterior is None else inspect.getattr_static(program.model, "__wrapped__")
    with program.running(seed=0, training=False):
        yield model


def _without(related: dict[str, Any], left_out: Any) -> dict[str, Any]:
    """Return the relations of the remaining sites; a value of ``pyro.deterministic`` does not count as observed."""

    def kept(names: list[str]) -> list[str]:
        return [name for name in names if name not in left_out]

    observed = [name for name in kept(related["observed"]) if related["sample_dist"][name] != "Deterministic"]
    remaining = {**related, "observed": observed}
    for key in ("sample_sample", "sample_param"):
        remaining[key] = {name: kept(related[key][name]) for name in kept(list(related[key]))}
    remaining["sample_dist"] = {name: related["sample_dist"][name] for name in remaining["sample_sample"]}
    plates = {plate: kept(names) for plate, names in related["plate_sample"].items()}
    remaining["plate_sample"] = {plate: names for plate, names in plates.items() if names}
    return remaining


def _joined(rows: list[SiteRow]) -> list[SiteRow]:
    """Merge rows that differ only in a number in their names, at the place of the first of them."""
    groups: dict[Any, list[SiteRow]] = {}
    for row in rows:
        groups.setdefault((re.sub(r"\d+", "#", row.name), *row[1:-1]), []).append(row)
    joined = []
    for group in groups.values():
        if len(group) < SERIES:
            joined += group
        else:
            name = f"{group[0].name} ... {group[-1].name}"
            joined.append(group[0]._replace(name=name, names=tuple(row.name for row in group)))
    order = {row.name: i for i, row in enumerate(rows)}
    return sorted(joined, key=lambda row: order[row.names[0]])


def _distribution(site: Site, shape: tuple[int, ...]) -> str:
    """Describe a distribution and the number of its values, such as ``Bernoulli, 28 x 28 numbers``."""
    size = " x ".join(map(str, shape)) or "1"
    values, kind = support(site), _kind(site["fn"])
    if values is not None and not shape and kind != "Bernoulli":
        return f"{kind}, one of {len(values)} values"
    return f"{kind}, {size} number{'' if size == '1' else 's'}"


def _kind(fn: Any) -> str:
    """Return the name of a distribution, without wrappers that only change its shape or its units or mask it."""
    wrappers = ("Independent", "ExpandedDistribution", "MaskedDistribution", "Rescaled", "PartlyObserved")
    while type(fn).__name__ in wrappers:
        fn = fn.base if isinstance(fn, PartlyObserved) else fn.base_dist
    name = type(fn).__name__
    if name == "TransformedDistribution":
        return f"transformed {_kind(fn.base_dist)}"
    if name == "MixtureSameFamily":
        return f"mixture of {_kind(fn.component_distribution)}"
    return name


def _support(site: Site) -> str:
    """Describe a support in words."""
    try:
        constraint = site["fn"].support
    except (NotImplementedError, AttributeError):
        return ""
    while hasattr(constraint, "base_constraint"):
        constraint = constraint.base_constraint
    name = type(constraint).__name__.strip("_").lower()
    bounds = [getattr(constraint, side, None) for side in ("lower_bound", "upper_bound")]
    single = [b for b in bounds if isinstance(b, int | float) or (isinstance(b, torch.Tensor) and b.numel() == 1)]
    numbers = [f"{float(b):g}" for b in single]
    if "integer" in name and len(numbers) == 2:
        return f"whole numbers from {numbers[0]} to {numbers[1]}"
    if "interval" in name and len(numbers) == 2:
        return f"from {numbers[0]} to {numbers[1]}"
    if "greaterthan" in name and numbers:
        return f"{'whole numbers' if 'integer' in name else 'numbers'} from {numbers[0]} on"
    words = {"real": "real numbers", "boolean": "0 or 1", "onehot": "one-hot vectors", "simplex": "probabilities"}
    return words.get(name, name)
