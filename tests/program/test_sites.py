"""Test the description of a program: sites, parameters and a graph, for every program of the gallery."""

from __future__ import annotations

import shutil
from xml.etree import ElementTree

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae import InputError
from ppl_vae.program import Batch, BoundProgram, Program
from ppl_vae.program import sites as described
from ppl_vae.program.sites import describe_modules, describe_posterior, describe_sites, render_graph
from tests.helpers.gallery import GALLERY
from tests.helpers.scenarios import normal

drawn = pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")


def make_case(name: str) -> tuple[BoundProgram, Batch]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = GALLERY[name].make()
    batch = tuple(t.float() if t.is_floating_point() else t for t in GALLERY[name].batch)
    return Program(module).bind(batch), batch


def read_labels(svg: str) -> set[str]:
    """Return the texts of a drawing; raise an error if it is no XML."""
    return {node.text or "" for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")}


def read_edges(svg: str) -> set[tuple[str, str]]:
    """Return the arrows of a drawing."""
    titles = [node.text or "" for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}title")]
    return {(a, b) for a, arrow, b in (title.partition("->") for title in titles) if arrow}


@pytest.mark.parametrize("name", GALLERY)
def test_every_site_and_every_parameter_is_reported(name: str) -> None:
    program, batch = make_case(name)
    before = torch.get_rng_state()
    rows, modules = describe_sites(program), describe_modules(program)
    assert torch.equal(torch.get_rng_state(), before)
    assert not dict(pyro.get_param_store().named_parameters())
    structure = program.structure
    roles = {site: row.role for row in rows for site in row.names}
    expected = dict.fromkeys(structure.observed, "observed") | dict.fromkeys(structure.latents, "latent")
    assert roles == expected | dict.fromkeys(structure.summed, "summed out")
    assert sum(row.num_parameters for row in modules) == sum(t.numel() for t in program.parameters().values())
    assert all(row.part for row in modules)
    sizes = {tuple(tensor.shape[1:]) for tensor in batch}
    if len(structure.observed) == 1:
        assert rows[-1].shape in sizes
    assert set(describe_posterior(program)) == set(structure.latents) - set(structure.summed)


def test_sites_are_described_in_words() -> None:
    rows = describe_sites(make_case("gmvae")[0])
    assert [(row.name, row.role, row.distribution, row.support) for row in rows] == [
        ("w", "latent", "Normal, 2 numbers", "real numbers"),
        ("c", "summed out", "Categorical, one of 3 values", "whole numbers from 0 to 2"),
        ("z", "latent", "Normal, 2 numbers", "real numbers"),
        ("x", "observed", "Bernoulli, 6 numbers", "0 or 1"),
    ]
    states, _ = describe_sites(make_case("hmm")[0])
    assert (states.name, states.shape, states.plates) == ("state_0 ... state_2", (), ("data",))
    assert states.names == ("state_0", "state_1", "state_2")
    chain, notes = describe_sites(make_case("deep_markov_model")[0])
    assert (chain.distribution, chain.shape, chain.plates) == ("GaussianChain, 3 x 2 numbers", (3, 2), ("data",))
    assert (notes.distribution, notes.shape) == ("Bernoulli, 3 x 3 numbers", (3, 3))
    assert notes.plates == ("data", "steps of 3")
    parts = {row.name: (row.part, row.num_parameters) for row in describe_modules(make_case("vamp_vae")[0])}
    assert parts["encoder"] == ("model and guide", 81)
    assert parts["raw_pseudo_inputs"] == ("model", 24)


def odd(x: Tensor) -> None:
    """A model with supports of several kinds, and two numbered sites, which are no series."""
    with pyro.plate("rows", len(x)):
        a = pyro.sample("a_1", dist.Gamma(1.0, 1.0))
        b = pyro.sample("a_2", dist.Gamma(a, 1.0))
        c = pyro.sample("c", dist.Uniform(0.0, 3.0))
        d = pyro.sample("d", dist.Dirichlet(torch.ones(4)))
        pyro.factor("f", -c)
        pyro.sample("x", dist.StudentT(3.0, b, 1 + d[..., 0]), obs=x)


def test_supports_and_factors() -> None:
    rows = {row.name: row for row in describe_sites(Program(odd).bind((normal(5).float(),)))}
    assert list(rows) == ["a_1", "a_2", "c", "d", "f", "x"]
    assert {name: rows[name].support for name in ("c", "d", "x")} == {
        "c": "from 0 to 3",
        "d": "probabilities",
        "x": "real numbers",
    }
    assert rows["a_1"].support.endswith("from 0 on") or "nonnegative" in rows["a_1"].support
    assert (rows["f"].role, rows["f"].distribution) == ("factor", "a weight of the draw")
    assert rows["x"].distribution == "StudentT, 1 number"


class Shared(nn.Module):
    """A model with a latent that all data share."""

    def model(self, x: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(w.sum(), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def test_a_global_latent_is_described() -> None:
    batch = (normal(7).float(),)
    program = Program(Shared()).bind(batch, num_data=7)
    rows = {row.name: (row.role, row.shape, row.plates) for row in describe_sites(program)}
    assert rows["w"] == ("global", (2,), ())
    assert rows["z"] == ("latent", (), ("data",))
    assert describe_posterior(program) == {"w": "Normal"}
    if shutil.which("dot"):
        assert read_edges(render_graph(program) or "") == {("w", "z"), ("z", "x")}


@drawn
@pytest.mark.parametrize("name", GALLERY)
def test_a_drawing_has_the_sites_and_leaves_no_trace(name: str) -> None:
    program, _ = make_case(name)
    before = torch.get_rng_state()
    svg = render_graph(program)
    assert svg is not None
    assert torch.equal(torch.get_rng_state(), before)
    assert not dict(pyro.get_param_store().named_parameters())
    rows = describe_sites(program)
    first = {site for row in rows for site in row.names[: described.DRAWN]}
    computed = {"z"} if name == "autoencoder" else set()  # by pyro.deterministic: it is drawn, and no site
    assert read_labels(svg) == computed | first | {plate.split(" of ")[0] for row in rows for plate in row.plates}
    assert svg == render_graph(program)


@drawn
def test_arrows_are_dependencies() -> None:
    assert read_edges(render_graph(make_case("autoencoder")[0]) or "") == {("z", "x")}
    assert read_edges(render_graph(make_case("cvae")[0]) or "") == {("z", "x")}
    assert read_edges(render_graph(make_case("gmvae")[0]) or "") == {("w", "z"), ("c", "z"), ("z", "x")}
    chain = read_edges(render_graph(make_case("hmm")[0]) or "")
    assert chain == {(f"state_{t}", f"state_{t + 1}") for t in range(2)} | {(f"state_{t}", f"x_{t}") for t in range(3)}


@pytest.mark.parametrize("missing", ["dot", "graphviz"])
def test_without_graphviz_there_is_no_drawing(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing == "dot":
        monkeypatch.setattr(described.shutil, "which", lambda _: None)
    else:
        monkeypatch.setattr(described.importlib.util, "find_spec", lambda _: None)
    assert render_graph(make_case("vae")[0]) is None


@drawn
def test_a_graph_that_pyro_cannot_draw_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("Overlapping plates\nand more")

    monkeypatch.setattr(described.relations, "get_model_relations", refuse)
    with pytest.raises(InputError, match=r"of VAE cannot be drawn \(NotImplementedError: Overlapping plates\)"):
        render_graph(make_case("vae")[0])
