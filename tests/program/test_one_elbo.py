"""Test that ``elbo`` is the ELBO of ``pyro.infer.Trace_ELBO`` in every row, however a program is written."""

from __future__ import annotations

import json
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_vae import VariationalInference
from ppl_vae.evaluation.evaluation import evidence_table
from ppl_vae.evaluation.passes import Room
from ppl_vae.evaluation.validation import validation_bound
from ppl_vae.program import Program, seeded
from tests.helpers.scenarios import SummedSwitch, Switch, normal, switch_evidence


class Styled(nn.Module):
    """A one-hot latent and a continuous one that the guide draws given it.

    Args:
        broadcasts: if True, the networks accept leading dimensions, so that the discrete latent can be summed out.
    """

    def __init__(self, broadcasts: bool) -> None:
        super().__init__()
        self.broadcasts = broadcasts
        self.decoder, self.choice, self.place = nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(7, 4)

    def joined(self, a: Tensor, b: Tensor) -> Tensor:
        if self.broadcasts:
            shape = torch.broadcast_shapes(a.shape[:-1], b.shape[:-1])
            a, b = (tensor.expand(*shape, tensor.shape[-1]) for tensor in (a, b))
        return torch.cat([a, b], -1)

    def model(self, x: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.OneHotCategorical(x.new_ones(3) / 3))
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(self.joined(z, y)), 0.5).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.OneHotCategorical(logits=self.choice(x)))
            loc, log_scale = self.place(self.joined(x, y)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def plain_terms(program: Any, x: Tensor, num_draws: int) -> Tensor:
    """Return log p(x, z) - log q(z | x) of plain Pyro, ``(K, B)``: their mean is the ELBO of ``Trace_ELBO``.

    The draws of a datum are those of copies of it.
    """

    def log_density(trace: poutine.Trace) -> Tensor:
        trace.compute_log_prob()
        sites = {name: site for name, site in trace.nodes.items() if site["type"] == "sample" and name != "data"}
        return torch.stack([site["log_prob"] for site in sites.values()]).sum(0)

    copies = x.repeat(num_draws, *[1] * (x.dim() - 1))
    with torch.no_grad(), pyro.validation_enabled(False):
        guide = poutine.trace(program.guide).get_trace(copies)
        replayed = poutine.replay(program.model, guide)
        if isinstance(program, SummedSwitch):  # its guide leaves c out, as TraceEnum_ELBO allows
            given = [poutine.condition(replayed, {"c": x.new_full((len(copies),), value)}) for value in (0.0, 1.0)]
            log_p = torch.stack([log_density(poutine.trace(model).get_trace(copies)) for model in given]).logsumexp(0)
        else:
            log_p = log_density(poutine.trace(replayed).get_trace(copies))
    terms = (log_p - log_density(guide)).unflatten(0, (num_draws, -1))
    pyro.clear_param_store()
    return terms.detach()


def near(row: Any, terms: Tensor) -> bool:
    """Check if a row agrees with the mean of terms, within five times the Monte Carlo error of both."""
    means = terms.mean(1)
    error = (means.var() / len(means) + row.mcse**2) ** 0.5
    return abs(row.log_evidence - means.mean().item()) < 5 * error


@pytest.mark.parametrize(
    ("make", "width", "collapsed"),
    [(lambda: Styled(True), 4, ("y",)), (lambda: Styled(False), 4, ()), (Switch, 0, ("c",)), (SummedSwitch, 0, ())],
    ids=["broadcasting", "not broadcasting", "scalar", "left out of the guide"],
)
def test_the_row_elbo_is_that_of_plain_pyro(make: Any, width: int, collapsed: tuple[str, ...]) -> None:
    """A discrete latent that the guide samples was summed out of it where the networks broadcast: 0.9 nats higher."""
    with seeded(0):
        module = make().double()
    x = normal(40, width) if width else normal(40)
    vi = VariationalInference(module, max_epochs=1, validation_fraction=0, learning_rate=1e-9).fit(x.numpy())
    assert vi.program_.structure.collapsed == collapsed
    evaluation = vi.evaluate(x.numpy(), estimators=["iwae"], num_samples=500)
    rows = evaluation.rows
    with seeded(3):
        terms = plain_terms(module, x, 500)
    assert near(rows["elbo"], terms)
    assert ("elbo_collapsed" in rows) == bool(collapsed)
    assert evaluation.summed_out == collapsed
    if collapsed:
        middle, top = rows["elbo_collapsed"], rows["iwae"]
        assert rows["elbo"].log_evidence + 3 * rows["elbo"].mcse < middle.log_evidence < top.log_evidence
        assert f"the guide samples {collapsed[0]}: elbo draws what it samples" in evaluation.table("test")
        assert json.loads(json.dumps(evaluation.numbers()))["summed_out"] == list(collapsed)
        lines = evidence_table(evaluation.numbers(), "test").lines()
        assert [line.split("  ")[0] for line in lines[1:3]] == ["elbo", "elbo, some latents summed out"]
    if isinstance(module, Switch):
        with torch.no_grad():
            assert rows["iwae"].log_evidence < switch_evidence(module, x).mean() + 5 * rows["iwae"].mcse


def test_training_validation_and_diagnosis_report_the_same_elbo() -> None:
    """The validation ELBO was the collapsed one, beside a training ELBO that is not."""
    with seeded(0):
        module = Styled(True).double()
    x = normal(40, 4)
    program = Program(module).bind((x,))
    with seeded(3):
        terms = plain_terms(module, x, 500)
    with torch.no_grad(), program.running(seed=5, training=False):
        valid = validation_bound(program, [(x,)], 40, num_particles=500, bound="elbo", room=Room(40.0))
        trained = program.weighted_draws((x,), 500).log_weight
        collapsed = program.log_weights((x,), 500)
    error = 5 * (2 * terms.mean(1).var().item() / 500) ** 0.5
    assert valid == pytest.approx(terms.mean().item(), abs=error)
    assert trained.mean().item() == pytest.approx(terms.mean().item(), abs=error)
    assert collapsed.mean() > terms.mean() + 2 * error
