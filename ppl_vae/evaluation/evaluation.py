"""An evaluation of a fitted program: a row for each estimator, what to doubt, and how the fit uses its latents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from ppl_vae.display.readable import readable
from ppl_vae.errors import InputError
from ppl_vae.evaluation.estimators import WITH_ELBO, Settings, bounds_first, doubts, label
from ppl_vae.evaluation.rows import Row
from ppl_vae.evaluation.settled import SettledLambda, describe_steps, warn_of_steps
from ppl_vae.evaluation.table import Column, ResultTable
from ppl_vae.evidence import Evidence, threshold

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@readable
class Diagnostics(NamedTuple):
    """The use that a fit makes of its latents."""

    reconstruction: float
    """E log p(x | z), nats per datum."""
    reconstruction_se: float
    divergence: float
    """KL(q(z | x) || p(z)), nats per datum; the ELBO is reconstruction - divergence."""
    divergence_se: float
    dimensions: tuple[str, ...]
    """The names of the latent dimensions, such as ``z[3]``."""
    divergence_by_dimension: Tensor
    """The mean KL of each dimension over data, ``(D,)``; NaN if the dimensions of a latent depend on each other."""
    divergence_by_dimension_se: Tensor
    """Its error over data, ``(D,)``."""
    active: Tensor | None
    """True for a dimension whose posterior mean varies over the data, ``(D,)``; None for a single datum."""
    aggregated_divergence: Tensor
    """The estimated KL(aggregated posterior || prior) of each dimension, ``(D,)``; an estimate can be below zero."""
    aggregated_divergence_se: Tensor
    """Its error over draws, ``(D,)``."""
    draws: Tensor
    """A draw from each datum's posterior, ``(N, D)``."""
    prior_draws: Tensor
    """Draws from the prior, ``(M, D)``."""
    gaussian_prior: Tensor
    """Mean and standard deviation of the prior of each dimension, ``(2, D)``; NaN if it is no Gaussian."""

    def numbers(self) -> dict[str, Any]:
        """Return the numbers that ``evidence.json`` holds of the latents."""
        columns = {
            "divergence": self.divergence_by_dimension.tolist(),
            "divergence_se": self.divergence_by_dimension_se.tolist(),
            "active": [None] * len(self.dimensions) if self.active is None else self.active.tolist(),
            "aggregated_divergence": self.aggregated_divergence.tolist(),
            "aggregated_divergence_se": self.aggregated_divergence_se.tolist(),
        }
        return {
            "reconstruction": self.reconstruction,
            "reconstruction_se": self.reconstruction_se,
            "divergence": self.divergence,
            "divergence_se": self.divergence_se,
            "active_units": None if self.active is None else int(self.active.sum()),
            "dimensions": {
                name: {key: values[i] for key, values in columns.items()} for i, name in enumerate(self.dimensions)
            },
        }


class Evaluation(NamedTuple):
    """Results on how well a program explains a part of the data."""

    num_data: int
    numbers_per_datum: float
    """The number of observed numbers in a datum, for bits per dimension."""
    rows: dict[str, Row]
    """By estimator, and the bounds of their draws: ``"elbo"`` is there if ``"iwae"`` is; see ``summed_out``."""
    evidence: dict[str, Evidence]
    """The evidence of every datum by estimator."""
    settings: Settings
    diagnostics: Diagnostics | None = None
    inference_seconds: float | None = None
    """The time to find the lambda of all data, if each has its own; it is part of no estimator's seconds."""
    settled: SettledLambda | None = None
    """How the lambda of all data has settled, if it takes steps until it does."""
    generates: bool = True
    """True if the model draws data without looking at the data that it observes."""
    discrete: bool = False
    """True if everything that is observed is discrete."""
    summed_out: tuple[str, ...] = ()
    """Latents that the guide samples and that all rows but ``elbo`` sum out, in p and in q; ``elbo_collapsed`` is the
    bound with their sum."""
    shared: tuple[str, ...] = ()
    """Latents that all data share: then ``elbo_joint`` is there beside ``elbo``, and rows state what they are of."""

    def table(self, part: str) -> str:
        """Return the rows as text, and below them BDMC's bounds and the ELBO's terms."""
        numbers = self.numbers()
        return evidence_table(numbers, part).text(*evidence_notes(numbers, generates=self.generates))

    def __repr__(self) -> str:
        return self.table("data")

    def _repr_html_(self) -> str:
        return evidence_table(self.numbers(), "data")._repr_html_()

    def plot_bound(self) -> Figure:
        """Draw the bound of importance sampling over the number of draws, beside other estimates of the evidence.

        Raises:
            InputError: there is no curve, as no estimate took draws.
        """
        from ppl_vae.plots import bound_over_samples  # by need

        curves = {
            name: {count: values.numpy() for count, values in estimate.curve.items()}
            for name, estimate in sorted(self.evidence.items())
            if estimate.curve
        }
        if not curves:
            raise InputError("no estimator with draws was evaluated: take estimators=('iwae',)")
        exact = self.rows["exact"].log_evidence if "exact" in self.rows else None
        references = {"ais": self.rows["ais"].log_evidence} if "ais" in self.rows else {}
        first_point = "ELBO, latents summed out" if self.summed_out else "ELBO"
        if self.shared:
            curves = {f"{name}, predictive": curve for name, curve in curves.items()}
        return bound_over_samples(curves, exact=exact, references=references, first_point=first_point)

    def plot_pareto_k(self) -> Figure:
        """Draw the Pareto k of all data, which shows for which of them importance sampling is reliable.

        Raises:
            InputError: iwae was not evaluated.
        """
        from ppl_vae.plots import pareto_k_histogram  # by need

        if "iwae" not in self.evidence:
            raise InputError("iwae was not evaluated: take estimators=('iwae',)")
        k = self.evidence["iwae"].columns["pareto_k"].numpy()
        return pareto_k_histogram(k, threshold(self.settings.num_samples))

    def label(self, name: str) -> str:
        """Return an estimator's name with the effort that it took."""
        return label(name, self.settings, self.rows[name].num_data, self.rows[name].of)

    def warnings(self) -> list[str]:
        """Return plain sentences about what should not be believed, and why."""
        sentences = []
        for name, evidence in self.evidence.items():
            if nothing := int((evidence.log_evidence == -math.inf).sum()):
                data = "1 datum" if nothing == 1 else f"{nothing} data"
                sentences.append(f"{name}: log evidence -inf of {data}: no draw of the latents explains them")
            sentences += doubts(name, evidence.doubtful.double().mean().item(), self.settings)
            sentences += _impossible(name, evidence) if self.discrete else []
        sentences += [] if self.settled is None else warn_of_steps(self.settled.numbers())
        lower = [(name, self.rows[name]) for name in bounds_first(self.rows)]
        lower = [(name, row) for name, row in lower if math.isfinite(row.log_evidence + row.mcse)]
        for name, row in lower:
            gains = [(better.log_evidence - row.log_evidence, other, better) for other, better in lower]
            above = [gain for gain in gains if gain[0] > max(0.01, 3 * math.hypot(row.mcse, gain[2].mcse))]
            if above:
                most, best, better = max(above, key=lambda gain: gain[0])
                why = "the evidence itself" if better.bound == "exact" else "also a lower bound on average"
                sentences.append(
                    f"{name} lies {most:.3f} nats below {best}, {why}: it understates the evidence by about that"
                )
        return sentences

    def score(self) -> dict[str, Any]:
        """Return the one number with its error, and the ELBO, for a summary."""
        name = WITH_ELBO if WITH_ELBO in self.rows else next(iter(self.rows))
        row, elbo = self.rows[name], self.rows.get("elbo", self.rows[name])
        joint = self.rows.get("elbo_joint")
        of = {} if joint is None else {"of": row.of, "elbo_joint": joint.log_evidence, "elbo_joint_mcse": joint.mcse}
        return of | {
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
        """Return what ``evidence.json`` holds."""
        rows = {name: {k: v for k, v in row._asdict().items() if v is not None} for name, row in self.rows.items()}
        for row in rows.values():
            row["bits_per_dimension"] = -row["log_evidence"] / (self.numbers_per_datum * math.log(2))
        numbers: dict[str, Any] = {"num_data": self.num_data, "estimators": rows, "warnings": self.warnings()}
        if self.shared:
            numbers["shared"] = list(self.shared)
        if self.summed_out:
            numbers["summed_out"] = list(self.summed_out)
        if self.diagnostics is not None:
            numbers["diagnostics"] = self.diagnostics.numbers()
        if self.inference_seconds is not None:
            numbers["inference_seconds"] = self.inference_seconds
        if self.settled is not None:
            numbers["lambda"] = self.settled.numbers()
        return numbers | {"settings": asdict(self.settings)}


PER_STEP = (Column("per_step", "nats per step", ".4f"), Column("per_step_se", "error over data", ".4f"))
"""The columns of a table of sequences, behind those of nats per datum."""
COLUMNS = (
    Column("label", "estimator"),
    Column("log_evidence", "nats per datum", ".2f"),
    Column("mcse", "Monte Carlo error", ".3f"),
    Column("se", "error over data", ".2f"),
    Column("ess", "effective draws", ".1f", rank=1),
    Column("doubtful", "doubtful", ".1%"),
    Column("bits_per_dimension", "bits/dim", ".4f", rank=3),
    Column("seconds", "seconds", ".1f", rank=2),
)
"""The columns of a table of estimates."""


def evidence_table(numbers: Mapping[str, Any], part: str) -> ResultTable:
    """Make the table of the estimators' numbers.

    Args:
        numbers: the numbers of an evaluation, which may have been read from ``evidence.json``.
        part: the part of the data, for the caption.
    """
    texts, settings = {}, Settings(**numbers["settings"])
    for name, row in numbers["estimators"].items():
        texts[name] = {"label": label(name, settings, row["num_data"], row.get("of"))}
        if row["bound"] == "exact":
            texts[name] |= {"mcse": "none", "ess": "", "doubtful": ""}
        elif "ess" not in row:
            texts[name] |= {"doubtful": ""}
    is_sequence = any("per_step" in row for row in numbers["estimators"].values())
    columns = (*COLUMNS[:4], *PER_STEP, *COLUMNS[4:]) if is_sequence else COLUMNS
    return ResultTable(f"{part}, {numbers['num_data']} data", columns, numbers["estimators"], texts)


def evidence_notes(numbers: Mapping[str, Any], *, generates: bool = True) -> list[str]:
    """Return the sentences below the table: BDMC's bounds, the time of inference, and the ELBO's terms.

    Args:
        numbers: as in ``evidence_table``.
        generates: True if the model draws data without looking at the data that it observes.
    """
    notes = []
    for name, row in numbers["estimators"].items():
        if "lower" in row and "upper" in row:
            lower, upper = (math.nan if row[side] is None else row[side] for side in ("lower", "upper"))
            width = upper - lower
            apart = f"which cross by {-width:.3f} nats of Monte Carlo error" if width < 0 else f"{width:.3f} nats apart"
            notes.append(
                f"{name}: for data simulated from the model the evidence lies between the bounds {lower:.2f} and "
                f"{upper:.2f}, {apart}"
            )
    if (seconds := numbers.get("inference_seconds")) is not None:
        per_datum = 1000 * seconds / numbers["num_data"]
        notes.append(
            f"before that, the posterior of each datum was found in {per_datum:.1f} ms, {seconds:.1f} s in all"
        )
    if (settled := numbers.get("lambda")) is not None:
        notes.append(f"its lambda was found {describe_steps(settled)}")
    if (used := numbers.get("diagnostics")) is not None:
        terms = [math.nan if used[key] is None else used[key] for key in ("reconstruction", "divergence")]
        count, active = len(used["dimensions"]), used["active_units"]
        activity = "" if active is None else f"; {active} of {count} latent dimensions active"
        notes.append(f"ELBO = reconstruction {terms[0]:.2f} - KL {terms[1]:.2f}{activity}")
    if summed := numbers.get("summed_out"):
        notes.append(
            f"the guide samples {', '.join(summed)}: elbo draws what it samples, as pyro.infer.Trace_ELBO does; in the "
            f"other rows the sum over its values stands in p and in q"
        )
    if shared := numbers.get("shared"):
        notes.append(
            f"all data share {', '.join(shared)}: predictive rows are of log E p(x | {shared[0]}) over its posterior, "
            f"the density of a datum given the fit, which the evidence of the data of the fit may not reach; "
            f"elbo, joint is a lower bound on the log evidence of these data together, divided by their number"
        )
    if not generates:
        notes.append(
            "the model computes with the data that it observes: unless each number is given those before it alone, "
            "this is a reconstruction term, as an autoencoder's, and no log evidence"
        )
    return notes


def _impossible(name: str, evidence: Evidence) -> list[str]:
    """Report log evidence of discrete data that means a probability above one."""
    error = evidence.mcse.nan_to_num(nan=0.0, posinf=0.0)
    above = int((evidence.log_evidence > 1e-3 + 3 * error).sum())
    if not above:
        return []
    whose = f"{above} of {len(error)} data have"
    return [f"{name}: {whose} a log evidence above 0, which discrete data cannot have: the estimate is wrong there"]
