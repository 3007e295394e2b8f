"""How good a fitted program is: a row for each estimator, what to think of it, and how the fit uses its latents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from torch import Tensor

from ppl_vae.evaluation.estimators import Estimate, Settings
from ppl_vae.evaluation.results import aligned, mean_and_error
from ppl_vae.evidence import Evidence, can_tell, threshold


class Row(NamedTuple):
    """One estimator's answer for a part of the data, nats per datum."""

    log_evidence: float
    mcse: float
    """Monte Carlo error of the mean: what other draws would change."""
    se: float
    """Error over data of the mean: what other data would change; infinite for a single datum."""
    bound: str
    ess: float | None
    """Effective number of draws or chains, the median over data; None for the ELBO, which weighs none."""
    doubtful: float
    """Share of the data whose estimate should not be believed."""
    seconds: float
    num_data: int
    lower: float | None = None
    upper: float | None = None


class Diagnostics(NamedTuple):
    """How a fit uses its latents."""

    reconstruction: float
    """E log p(x | z), nats per datum."""
    reconstruction_se: float
    divergence: float
    """KL(q(z | x) || p(z)), nats per datum; the ELBO is reconstruction - divergence."""
    divergence_se: float
    dimensions: tuple[str, ...]
    """Names of the latent dimensions, such as ``z[3]``."""
    divergence_by_dimension: Tensor
    """KL of each dimension, averaged over data, ``(D,)``; NaN where the dimensions of a latent depend on each other."""
    active: Tensor | None
    """Whether a dimension's posterior mean varies over the data, ``(D,)``; a single datum cannot tell, None."""
    aggregated_divergence: Tensor
    """Estimated KL(aggregated posterior || prior) of each dimension, ``(D,)``."""
    draws: Tensor
    """A draw from each datum's posterior, ``(N, D)``."""
    prior_draws: Tensor
    """Draws from the prior, ``(M, D)``."""


class Evaluation(NamedTuple):
    """What is known of how well a program explains a part of the data."""

    num_data: int
    numbers_per_datum: float
    """Observed numbers in a datum, for bits per dimension."""
    rows: dict[str, Row]
    """By estimator; ``"elbo"`` too where it comes with ``"iwae"``."""
    evidence: dict[str, Evidence]
    """By estimator, of every datum."""
    settings: Settings
    diagnostics: Diagnostics | None = None
    inference_seconds: float | None = None
    """That it took to find the lambda of all data, where each has its own; no estimator's seconds have them."""
    generates: bool = True
    """Whether the model draws data without looking at those that it observes."""
    discrete: bool = False
    """Whether all that is observed is discrete."""

    @property
    def highest_pareto_k(self) -> float:
        """Above it, importance weights of so many draws should not be believed."""
        return threshold(self.settings.num_samples)

    def bits_per_dimension(self, log_evidence: float) -> float:
        """Nats per datum as bits per observed number, lower is better."""
        return -log_evidence / (self.numbers_per_datum * math.log(2))

    def table(self, part: str) -> str:
        """The rows as text, under it BDMC's bounds and the ELBO's terms."""
        errors = ("Monte Carlo error", "error over data")
        lines = [["estimator", "nats per datum", *errors, "effective", "doubtful", "bits/dim", "seconds"]]
        for name, row in self.rows.items():
            known = row.bound == "exact"
            lines.append(
                [
                    self.label(name),
                    f"{row.log_evidence:.2f}",
                    "none" if known else f"{row.mcse:.3f}",
                    f"{row.se:.2f}",
                    "" if known or row.ess is None else f"{row.ess:.1f}",
                    "" if known or name == "elbo" else f"{row.doubtful:.1%}",
                    f"{self.bits_per_dimension(row.log_evidence):.4f}",
                    f"{row.seconds:.1f}",
                ]
            )
        text = [f"{part}, {self.num_data} data", *aligned(lines)]
        if (bdmc := self.rows.get("bdmc")) is not None and bdmc.lower is not None and bdmc.upper is not None:
            width = bdmc.upper - bdmc.lower
            apart = (
                f"{width:.3f} nats apart" if width >= 0 else f"which cross by {-width:.3f} nats of Monte Carlo error"
            )
            text.append(
                f"bdmc: for data simulated from the model the evidence lies between the bounds {bdmc.lower:.2f} and "
                f"{bdmc.upper:.2f}, {apart}"
            )
        if (seconds := self.inference_seconds) is not None:
            each = 1000 * seconds / self.num_data
            text.append(f"before that, the posterior of each datum was found in {each:.1f} ms, {seconds:.1f} s in all")
        if (used := self.diagnostics) is not None:
            text.append(f"ELBO = reconstruction {used.reconstruction:.2f} - KL {used.divergence:.2f}{_activity(used)}")
        if not self.generates:
            text.append(
                "the model computes with the data that it observes: unless each number is given those before it alone, "
                "this is a reconstruction term, as an autoencoder's, and no log evidence"
            )
        return "\n".join(text)

    def label(self, name: str) -> str:
        """An estimator with the effort that it took."""
        s = self.settings
        if name in ("prior", "iwae", "cubo"):
            local = f", {s.proposal_family} per-sample" if s.proposal == "per-sample" and name != "prior" else ""
            return f"{name}, {_counted(s.num_samples, 'draw')}{local}"
        if name in ("ais", "bdmc"):
            data = "datum" if self.rows[name].num_data == 1 else "data"
            simulated = f", {self.rows[name].num_data} simulated {data}" if name == "bdmc" else ""
            return f"{name}, {_counted(s.num_chains, 'chain')} of {s.num_temperatures}{simulated}"
        return name

    def warnings(self) -> list[str]:
        """Plain sentences about what should not be believed, and why."""
        sentences = []
        for name, evidence in self.evidence.items():
            sentences += _doubts(name, evidence, self.settings)
            sentences += _impossible(name, evidence) if self.discrete else []
        lower = {name: self.rows[name] for name in ("exact", "ais", "iwae", "prior") if name in self.rows}
        lower = {name: row for name, row in lower.items() if math.isfinite(row.log_evidence + row.mcse)}
        for name, row in lower.items():
            above = {
                other: better.log_evidence - row.log_evidence
                for other, better in lower.items()
                if better.log_evidence - row.log_evidence > max(0.01, 3 * math.hypot(row.mcse, better.mcse))
            }
            if above:
                best = max(above, key=lambda other: above[other])
                why = "the evidence itself" if best == "exact" else "also a lower bound on average"
                short = f"{name} lies {above[best]:.3f} nats below {best}, {why}"
                sentences.append(f"{short}: it understates the evidence by about that")
        return sentences

    def score(self) -> dict[str, Any]:
        """The one number with its error, and the ELBO, for a summary."""
        name = "iwae" if "iwae" in self.rows else next(iter(self.rows))
        row, elbo = self.rows[name], self.rows.get("elbo", self.rows[name])
        return {
            "elbo": elbo.log_evidence,
            "elbo_mcse": elbo.mcse,
            "elbo_se": elbo.se,
            "log_evidence": row.log_evidence,
            "log_evidence_mcse": row.mcse,
            "log_evidence_se": row.se,
            "estimator": name,
            "num_samples": self.settings.num_samples,
            "num_data": self.num_data,
        }

    def numbers(self) -> dict[str, Any]:
        """What ``evidence.json`` holds."""
        rows = {name: {k: v for k, v in row._asdict().items() if v is not None} for name, row in self.rows.items()}
        for name, row in self.rows.items():
            rows[name]["bits_per_dimension"] = self.bits_per_dimension(row.log_evidence)
        answer: dict[str, Any] = {"num_data": self.num_data, "estimators": rows, "warnings": self.warnings()}
        if (d := self.diagnostics) is not None:
            active = [None] * len(d.dimensions) if d.active is None else d.active.tolist()
            numbers = (d.divergence_by_dimension.tolist(), active, d.aggregated_divergence.tolist())
            answer["diagnostics"] = {
                "reconstruction": d.reconstruction,
                "reconstruction_se": d.reconstruction_se,
                "divergence": d.divergence,
                "divergence_se": d.divergence_se,
                "active_units": None if d.active is None else int(d.active.sum()),
                "dimensions": {
                    name: dict(zip(("divergence", "active", "aggregated_divergence"), row, strict=True))
                    for name, row in zip(d.dimensions, zip(*numbers, strict=True), strict=True)
                },
            }
        if self.inference_seconds is not None:
            answer["inference_seconds"] = self.inference_seconds
        answer["settings"] = asdict(self.settings)
        return answer


def _activity(used: Diagnostics) -> str:
    if used.active is None:
        return ""
    return f"; {int(used.active.sum())} of {len(used.active)} latent dimensions active"


def summarise(estimates: Mapping[str, Estimate]) -> dict[str, Row]:
    """A row for each estimator, and one for the ELBO where ``iwae`` has it."""
    rows = {}
    for name, (evidence, seconds) in estimates.items():
        if "elbo" in evidence.columns:
            rows["elbo"] = _row(evidence.columns["elbo"], evidence.columns["elbo_mcse"], seconds, biased=False)
        biased = evidence.bound != "exact"
        row = _row(evidence.log_evidence, evidence.mcse, seconds, bound=evidence.bound, biased=biased)
        row = row._replace(ess=evidence.ess.median().item(), doubtful=evidence.doubtful.double().mean().item())
        if evidence.bound == "sandwich":
            lower, upper = (evidence.columns[side].mean().item() for side in ("lower", "upper"))
            row = row._replace(lower=lower, upper=upper)
        rows[name] = row
    return rows


def _row(values: Tensor, mcse: Tensor, seconds: float, *, bound: str = "lower", biased: bool) -> Row:
    mean, se = mean_and_error(values)
    return Row(mean, _error_of_mean(mcse, biased), se, bound, None, 0.0, seconds, len(values))


def _error_of_mean(mcse: Tensor, biased: bool) -> float:
    r"""Monte Carlo error of a mean over data.

    .. math::
        \mathrm{mcse}^2 = \frac1{N^2} \sum_i \mathrm{mcse}_i^2
        + \Bigl(\frac1N \sum_i \frac{\mathrm{mcse}_i^2}2\Bigr)^2

    The second term is there for the logarithm of a mean, whose bias is half its variance to second order: the bias is
    of one sign, so that averaging over data does not remove it.
    """
    variance = mcse.square()
    bias = variance.mean().item() / 2 if biased else 0.0
    return math.sqrt(variance.sum().item() / len(mcse) ** 2 + bias**2)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _impossible(name: str, evidence: Evidence) -> list[str]:
    """What discrete data cannot have: a probability above one."""
    error = evidence.mcse.nan_to_num(nan=0.0, posinf=0.0)
    above = int((evidence.log_evidence > 1e-3 + 3 * error).sum())
    if not above:
        return []
    whose = f"{above} of {len(error)} data have"
    return [f"{name}: {whose} a log evidence above 0, which discrete data cannot have: the estimate is wrong there"]


def _doubts(name: str, evidence: Evidence, settings: Settings) -> list[str]:
    """What is doubtful about an estimator's answers, in plain sentences."""
    sentences = []
    if nothing := int((evidence.log_evidence == -math.inf).sum()):
        data = "1 datum" if nothing == 1 else f"{nothing} data"
        sentences.append(f"{name}: log evidence -inf of {data}: no draw of the latents explains them")
    share = evidence.doubtful.double().mean().item()
    if share == 0:
        return sentences
    whose = f"{share:.1%} of the data"
    if name in ("prior", "iwae", "cubo"):
        if not can_tell(settings.num_samples):
            draws = _counted(settings.num_samples, "draw")
            return [*sentences, f"{name}: of {draws} nobody can tell how far off they are; take more --num-samples"]
        limit = threshold(settings.num_samples)
        verdict = "should not be trusted" if share > 0.5 else "is unreliable there"
        cause = {
            "prior": "too few draws of the prior come near their posterior",
            "iwae": "the proposal misses a part of their posterior",
            "cubo": "the squares of their weights have too heavy a tail",
        }[name]
        remedy = {
            "prior": "take iwae",
            "iwae": "try --proposal-scale 1.2 or --proposal-df 5, or check it by ais",
            "cubo": "take more --num-samples, and do not call it a bound",
        }[name]
        sentences.append(
            f"{name}: Pareto k above {limit:.2f} for {whose}: {cause}, and the estimate {verdict}; {remedy}"
        )
    elif settings.num_chains == 1:
        sentences.append(f"{name}: one chain cannot tell its error; take more --num-chains")
    elif name == "ais":
        sentences.append(
            f"ais: Monte Carlo error above 0.5 nats for {whose}: the chains disagree; take more --num-temperatures or "
            f"--num-chains"
        )
    elif name == "bdmc":
        sentences.append(
            f"bdmc: the bounds are more than 1 nat apart, or the chains disagree, for {whose}: this annealing is too "
            f"fast; take more --num-temperatures"
        )
    return sentences
