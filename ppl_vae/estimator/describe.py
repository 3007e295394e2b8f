"""A description of a fitted program, in words and as a graph."""

from __future__ import annotations

import inspect
from typing import NamedTuple

from ppl_vae.display.readable import readable
from ppl_vae.errors import InputError
from ppl_vae.estimator.variational_inference import VariationalInference
from ppl_vae.program import Program
from ppl_vae.program.sites import ModuleRow, SiteRow, describe_modules, describe_posterior, describe_sites, render_graph


@readable
class Description(NamedTuple):
    """A fitted program in words and as a graph."""

    name: str
    summary: str
    """The first paragraph of the program's docstring; empty if it has none."""
    sites: list[SiteRow]
    posterior: dict[str, str]
    """Distributions of the posterior's sites in words, by name."""
    modules: list[ModuleRow]
    inference: str
    """A sentence on how the posterior of a datum is computed."""
    arguments: dict[str, tuple[int, ...]]
    """Arrays that the model takes, with the shape of a datum."""
    has_latents: bool
    """True if there are latents that a guide samples."""
    generates: bool
    """True if the model draws data without looking at the data that it observes."""
    graph: str | None
    """The graphical model, SVG."""
    no_graph: str
    """The reason why there is no graph; empty if there is one."""


def describe(vi: VariationalInference) -> Description:
    """Describe the sites, parameters, posterior and graph of a fitted program, without changing global state.

    Args:
        vi: the estimator, fitted or loaded.

    Example:
        >>> import numpy as np
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.factor_analysis import FactorAnalysis
        >>> x = np.random.default_rng(0).normal(size=(50, 5)).astype("float32")
        >>> description = describe(VariationalInference(FactorAnalysis(data_dim=5, latent_dim=2), max_epochs=1).fit(x))
        >>> [(row.name, row.role) for row in description.sites], description.posterior
        ([('z', 'latent'), ('x', 'observed')], {'z': 'Normal'})
        >>> description.inference
        "The program's own guide gives the posterior of a datum."
    """
    program, batch = vi.program_, vi.template_
    graph, no_graph = None, ""
    try:
        graph = render_graph(program)
        if graph is None:
            no_graph = "graphviz is not installed: install its program dot, and pip install 'ppl-vae[graph]'"
    except InputError as error:
        no_graph = str(error)
    return Description(
        name=program.name,
        summary=_summary(vi),
        sites=describe_sites(program),
        posterior=describe_posterior(vi.inference_.posterior),
        modules=describe_modules(program),
        inference=_inference(vi),
        arguments={name: tuple(row.shape[1:]) for name, row in zip(vi.arguments_, batch, strict=True)},
        has_latents=vi.has_latents,
        generates=vi.generates,
        graph=graph,
        no_graph=no_graph,
    )


def _summary(vi: VariationalInference) -> str:
    """Return the first paragraph of the docstring of the program's class or function."""
    program = vi.origin.program
    owner = program if inspect.isfunction(program) else type(program)
    text = vars(owner).get("__doc__") if isinstance(owner, type) else owner.__doc__
    known = isinstance(text, str) and not isinstance(program, Program | tuple)
    return " ".join(inspect.cleandoc(text).split("\n\n")[0].split()) if known and text else ""


def _inference(vi: VariationalInference) -> str:
    """Return a sentence on how the posterior of a datum is computed."""
    if not vi.has_latents:
        latent = vi.program_.structure.latents
        return "The discrete latents are summed out, exactly." if latent else "There are no latents of a datum."
    return vi.inference_.describe_posterior()
