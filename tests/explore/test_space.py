"""Points of a latent space are decoded as plain Pyro decodes them, for programs of many kinds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from torch.distributions import biject_to

from ppl_vae import InputError
from ppl_vae.explore import ExploredSpace
from ppl_vae.uses import embed, traverse
from tests.helpers.uses import open_case

KINDS = ["cvae", "gmvae", "hierarchical_vae", "deep_markov_model", "unusual", "vae, per-sample"]


def open_space(name: str, folder: Path) -> tuple[ExploredSpace, dict[str, Any]]:
    """Return the space of a fitted program of the law of the uses, and its data."""
    run = open_case(name, folder)
    return ExploredSpace(run.vi, run.data.test), dict(run.data.test)


@torch.no_grad()
def decode_plainly(space: ExploredSpace, point: Mapping[str, float], batch: tuple[Any, ...]) -> dict[str, np.ndarray]:
    """Return the means of the observed sites of one datum by a run of the model in plain Pyro."""
    model: Any = space.vi.origin.program.model
    pyro.clear_param_store()
    sites = {name: site for name, site in poutine.trace(model).get_trace(*batch).nodes.items() if "fn" in site}
    latents = {}
    for name, site in sites.items():
        axes = [axis for axis in space.map.coordinates.names if re.fullmatch(rf"{re.escape(name)}(\[.*\])?", axis)]
        if axes and not site["is_observed"]:
            choices = space.values_of(axes[0])
            values = torch.tensor([point[axis] if choices is None else choices[int(point[axis])] for axis in axes])
            if choices is None:
                values = biject_to(site["fn"].support)(values.to(site["value"]).reshape(site["value"].shape))
            latents[name] = values.reshape(site["value"].shape)
    trace = poutine.trace(poutine.condition(model, data=latents)).get_trace(*batch)
    pyro.clear_param_store()
    return {name: trace.nodes[name]["fn"].mean.numpy() for name in space.vi.program_.structure.observed}


@pytest.mark.parametrize("name", KINDS)
def test_a_point_is_decoded_as_plain_pyro_decodes_it(name: str, tmp_path: Path) -> None:
    space, _ = open_space(name, tmp_path / "run")
    random = np.random.default_rng(0)
    point = {axis: random.normal() if space.values_of(axis) is None else 1 for axis in space.names}
    assert set(point) == set(space.map.coordinates.names)
    decoded = space.decode([point, {}], row=3)
    expected = decode_plainly(space, point, tuple(tensor[3:4] for tensor in space.data))
    for site, mean in expected.items():
        actual = decoded.means[site][0].ravel()
        np.testing.assert_allclose(actual, mean.ravel(), rtol=1e-7, atol=1e-12)  # a parameter in single precision
        assert np.abs(decoded.means[site][1] - decoded.means[site][0]).max() > 1e-6, "every point is decoded alike"
    assert {axis for axis in space.names if space.is_moved(axis)} == ({"s/ö[0]", "s/ö[1]", "s/ö[2]"} & set(space.names))
    if name == "cvae":
        label = (int(space.arrays["y"][3]) + 1) % 4
        other = space.decode([point], 3, {"y": label})
        expected = decode_plainly(space, point, (space.data[0][3:4], torch.tensor([label])))
        np.testing.assert_allclose(other.means["x"], expected["x"], rtol=1e-9)


def test_data_have_their_posterior_means_and_their_neighbours(tmp_path: Path) -> None:
    space, arrays = open_space("vae", tmp_path / "run")
    embedding = embed(space.vi, arrays)
    columns = [embedding.names.index(name) for name in space.names]
    np.testing.assert_allclose(space.places, embedding.mean[:, columns], rtol=1e-12)
    traversal = traverse(space.vi, arrays)
    assert traversal.names == space.names
    np.testing.assert_allclose(space.divergence, traversal.divergence, rtol=1e-12)
    point = dict(zip(space.names, [0.3, -0.2], strict=True))
    nearest = space.decode([point]).nearest[0]  # the prior has standard deviations of one
    away = np.linalg.norm(space.places - list(point.values()), axis=1)
    np.testing.assert_allclose(away[nearest], np.sort(away)[:6], rtol=1e-9)  # some data are equal
    assert len(set(nearest)) == 6
    near, sd = space.neighbourhood(5), embedding.sd[5, columns]
    assert np.abs(near.posterior.mean(0) - space.places[5]).max() < 5 * sd.max() / 16  # 256 draws
    np.testing.assert_allclose(near.posterior.std(0), sd, rtol=0.25)
    assert np.abs(near.prior.mean(0)).max() < 5 / 16
    np.testing.assert_allclose(near.prior.std(0), 1, rtol=0.25)
    at_prior = space.decode([{}], around_prior=True).means["x"]
    np.testing.assert_allclose(at_prior, space.decode([dict.fromkeys(space.names, 0.0)]).means["x"], rtol=1e-12)
    assert space.prior_mean(0) == dict.fromkeys(space.names, 0.0)


def test_the_code_of_an_autoencoder_is_explored_without_a_prior(tmp_path: Path) -> None:
    space, _ = open_space("autoencoder", tmp_path / "run")
    assert not space.has_prior
    assert np.isnan(space.divergence).all()
    assert len(space.neighbourhood(0).prior) == 0
    assert np.ptp(space.decode([{"z[0]": -1.0}, {"z[0]": 1.0}]).means["x"], axis=0).max() > 1e-6


@pytest.mark.parametrize(
    ("name", "reason"),
    [("hmm", "no continuous latent to explore"), ("mixture", "generate.* --c all"), ("normal", "no latents")],
)
def test_a_program_without_a_continuous_latent_is_refused(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason):
        open_space(name, tmp_path / "run")


def test_a_point_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    space, _ = open_space("gmvae", tmp_path / "run")
    for point, row, conditions, reason in [
        ({"y[0]": 1.0}, 0, {}, r"no latent dimension has the name 'y\[0\]'"),
        ({"z[0]": np.nan}, 0, {}, r"z\[0\] is nan: expected a finite number"),
        ({"c": 3}, 0, {}, "c is 3: expected the number of one of its values, 0 to 2"),
        ({}, 21, {}, "datum 21 does not exist: there are data 0 to 20"),
        ({}, 0, {"y": 1}, "the model takes no condition 'y'"),
    ]:
        with pytest.raises(InputError, match=reason):
            space.decode([point], row, conditions)
