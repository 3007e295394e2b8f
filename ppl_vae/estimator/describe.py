"""What a fitted object is, in words and as a graph, and what an evaluation that was written says."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from ppl_vae.errors import InputError, reason
from ppl_vae.estimator.variational_inference import VariationalInference
from ppl_vae.evaluation.estimators import make_settings
from ppl_vae.evaluation.evaluation import Diagnostics, Evaluation, Row
from ppl_vae.program import BoundProgram, DerivedGuide, Program
from ppl_vae.program.sites import ModuleRow, SiteRow, describe_modules, describe_posterior, describe_sites, render_graph


class Description(NamedTuple):
    """What a fitted program is."""

    name: str
    summary: str
    """The first paragraph of the program's docstring; empty where it has none."""
    sites: list[SiteRow]
    posterior: dict[str, str]
    """Distributions of the posterior's sites in words, by name."""
    modules: list[ModuleRow]
    inference: str
    """How the posterior of a datum is found, in a sentence."""
    arguments: dict[str, tuple[int, ...]]
    """Arrays that the model takes, with the shape of a datum."""
    has_latents: bool
    """Whether there are latents that a guide samples."""
    generates: bool
    """Whether the model draws data without looking at those that it observes."""
    graph: str | None
    """The graphical model, SVG."""
    no_graph: str
    """Why there is none; empty where there is one."""


def describe(vi: VariationalInference) -> Description:
    """Sites, parameters, posterior and graph of a fitted program; nothing that is global changes.

    Args:
        vi: fitted, or loaded.

    Example:
        >>> import numpy as np
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.factor_analysis import FactorAnalysis
        >>> x = np.random.default_rng(0).normal(size=(50, 5)).astype("float32")
        >>> found = describe(VariationalInference(FactorAnalysis(data_dim=5, latent_dim=2), max_epochs=1).fit(x))
        >>> [(row.name, row.role) for row in found.sites], found.posterior
        ([('z', 'latent'), ('x', 'observed')], {'z': 'Normal'})
        >>> found.inference
        "The program's own guide gives the posterior of a datum."
    """
    program, batch = vi.program_, vi.template_
    graph, no_graph = None, ""
    try:
        graph = render_graph(program)
        if graph is None:
            no_graph = "graphviz is not there: install its program dot, and pip install 'ppl-vae[graph]'"
    except InputError as error:
        no_graph = str(error)
    return Description(
        name=program.name,
        summary=_summary(vi),
        sites=describe_sites(program),
        posterior=describe_posterior(vi.inference_.posterior),
        modules=describe_modules(program),
        inference=_inference(vi, program),
        arguments={name: tuple(row.shape[1:]) for name, row in zip(vi.arguments_, batch, strict=True)},
        has_latents=vi.has_latents,
        generates=vi.generates,
        graph=graph,
        no_graph=no_graph,
    )


def evaluation_of(numbers: Mapping[str, Any]) -> Evaluation:
    """What ``Evaluation.numbers`` wrote, as an evaluation again, with its labels and the sentences of its table.

    What was not written, the evidence of each datum and draws of the latents, is empty; null is NaN.

    Args:
        numbers: content of ``evidence.json``.

    Raises:
        InputError: something that every evaluation writes is missing.

    Example:
        >>> iwae = {"log_evidence": -3.0, "mcse": 0.1, "se": 0.5, "bound": "lower", "ess": 7.0, "doubtful": 0.0}
        >>> iwae |= {"seconds": 1.0, "num_data": 9, "bits_per_dimension": 2.16}
        >>> found = evaluation_of({"num_data": 9, "estimators": {"iwae": iwae}, "settings": {"num_samples": 50}})
        >>> found.label("iwae"), round(found.bits_per_dimension(-3.0), 2)
        ('iwae, 50 draws', 2.16)
    """
    try:
        written = numbers["estimators"]
        used = numbers.get("diagnostics")
        per_datum = [
            -each["log_evidence"] / (each["bits_per_dimension"] * math.log(2))
            for each in written.values()
            if each["log_evidence"] and each["bits_per_dimension"]
        ]
        return Evaluation(
            num_data=numbers["num_data"],
            numbers_per_datum=per_datum[0] if per_datum else math.nan,
            rows={name: _row(each) for name, each in written.items()},
            evidence={},
            settings=make_settings(numbers["settings"]),
            diagnostics=None if used is None else _diagnostics(used),
            inference_seconds=numbers.get("inference_seconds"),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"no evaluation ({reason(error)})") from error


def _row(written: Mapping[str, Any]) -> Row:
    """A row of numbers; the optional ones may be missing."""
    given = {name: _number(written[name]) for name in Row._fields if name in written}
    return Row(**({"ess": None} | given))


def _diagnostics(written: Mapping[str, Any]) -> Diagnostics:
    """How the latents are used, without draws."""
    dimensions = written["dimensions"]
    columns = {
        key: [each[key] for each in dimensions.values()] for key in ("divergence", "active", "aggregated_divergence")
    }
    active = None if written["active_units"] is None else torch.tensor(columns["active"])
    empty = torch.empty(0, len(dimensions))
    return Diagnostics(
        reconstruction=_number(written["reconstruction"]),
        reconstruction_se=_number(written["reconstruction_se"]),
        divergence=_number(written["divergence"]),
        divergence_se=_number(written["divergence_se"]),
        dimensions=tuple(dimensions),
        divergence_by_dimension=torch.tensor([_number(value) for value in columns["divergence"]]),
        active=active,
        aggregated_divergence=torch.tensor([_number(value) for value in columns["aggregated_divergence"]]),
        draws=empty,
        prior_draws=empty,
    )


def _number(value: Any) -> Any:
    """Null, which JSON has for a number that is not finite, as NaN."""
    return math.nan if value is None else value


def _summary(vi: VariationalInference) -> str:
    """The first paragraph of the docstring of the program's class or function."""
    program = getattr(vi, "program", None)
    owner = program if inspect.isfunction(program) else type(program)
    text = vars(owner).get("__doc__") if isinstance(owner, type) else owner.__doc__
    known = isinstance(text, str) and not isinstance(program, Program | tuple)
    return " ".join(inspect.cleandoc(text).split("\n\n")[0].split()) if known and text else ""


def _inference(vi: VariationalInference, program: BoundProgram) -> str:
    """How the posterior of a datum is found, in a sentence."""
    if not vi.has_latents:
        latent = program.structure.latents
        return "The discrete latents are summed out, exactly." if latent else "There are no latents of a datum."
    family = {"diagonal": "a Gaussian with a diagonal covariance", "full": "a Gaussian with a full covariance"}
    options = vi.get_params(deep=False)
    kind = family.get(options["family"], f"a {options['family']}")
    if options["guide"] == "per-sample":
        steps = options["inference_steps"]
        return f"The posterior of every datum, {kind}, is found by at most {steps} gradient steps of its own."
    derived = isinstance(program.guide, DerivedGuide)
    whose = "An encoder that is derived from the model" if derived else "The program's own guide"
    if options["guide"] == "semi-amortized":
        steps = options["local_steps"]
        return f"{whose} gives where the posterior of a datum, {kind}, starts; {steps} gradient steps refine it."
    return f"{whose} gives the posterior of a datum{f', {kind}' if derived else ''}."
