"""The gaps of inference: the best lambda of every datum in each family, beside the output of the encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from ppl_vae.display.readable import readable
from ppl_vae.evaluation.results import error_of_mean, mean_and_error
from ppl_vae.evaluation.table import Column, ResultTable
from ppl_vae.evidence import Evidence

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@readable
class LocalFit(NamedTuple):
    """The best lambda of every datum in one family."""

    evidence: Evidence
    """The evidence by importance sampling with q* as the proposal, and the ELBO of the same draws."""
    seconds_per_datum: float
    """The time of the optimisation from one start, all data together."""
    steps: float
    """The number of steps of a datum, on average."""

    @property
    def elbo(self) -> Tensor:
        """L(q*), ``(N,)``, nats."""
        return self.evidence.columns["elbo"].double()


class Gap(NamedTuple):
    """The gaps of inference, datum by datum, nats."""

    families: Mapping[str, LocalFit]
    encoder: Evidence | None
    """The evidence by importance sampling with the encoder's posterior as the proposal; None without an encoder."""
    log_evidence: Tensor
    """The best estimate available, ``(N,)``."""
    by: str
    """The source of that estimate."""
    mcse: float
    """Monte Carlo error of its mean."""
    of: str | None = None
    """What all of these are of, as in ``Row``: ``"predictive"`` if latents are shared by all data."""

    @property
    def amortized(self) -> Tensor | None:
        """The ELBO with the encoder, ``(N,)``, nats; None if there is no encoder."""
        return None if self.encoder is None else self.encoder.columns["elbo"].double()

    @property
    def num_data(self) -> int:
        """The number of data."""
        return len(self.log_evidence)

    def gaps(self, family: str) -> dict[str, tuple[float, float]]:
        r"""Return means and paired standard errors over data of the gaps, with the q* of a family, nats per datum.

        .. math::
            \underbrace{\log p(x) - \mathcal L(q_\phi)}_{\text{inference}} =
            \underbrace{\log p(x) - \mathcal L(q^*)}_{\text{approximation}} +
            \underbrace{\mathcal L(q^*) - \mathcal L(q_\phi)}_{\text{amortization}}

        Source: Cremer, Li and Duvenaud, Inference Suboptimality in Variational Autoencoders (2018), section 3.
        """
        best = self.families[family].elbo
        differences = {"approximation": self.log_evidence - best}
        if self.amortized is not None:
            differences |= {"amortization": best - self.amortized, "inference": self.log_evidence - self.amortized}
        return {name: mean_and_error(difference) for name, difference in differences.items()}

    def __repr__(self) -> str:
        return self.table("data")

    def _repr_html_(self) -> str:
        return gap_table(self.numbers(), "data")._repr_html_()

    def plot(self) -> Figure:
        """Draw the ladder from the encoder's ELBO to the evidence, with the gaps."""
        from ppl_vae.plots import gaps  # by need

        families = {name: fit.elbo.numpy() for name, fit in self.families.items()}
        amortized = None if self.amortized is None else self.amortized.numpy()
        by = self.by if self.of is None else f"{self.of}, {self.by}"
        return gaps(self.log_evidence.numpy(), families, amortized=amortized, by=by)

    def table(self, part: str) -> str:
        """Return the ladder from the encoder's ELBO to the evidence as text, and the gaps with their paired errors."""
        encoder = (
            "the encoder's inference gap = amortization gap (above the encoder) + approximation gap",
            "(below the evidence), for the family of its posterior",
        )
        errors = "differences: nats per datum, ± their paired error over data"
        return gap_table(self.numbers(), part).text(*(() if self.encoder is None else encoder), errors)

    def warnings(self) -> list[str]:
        """Return plain sentences about what is not as it should be."""
        sentences = []
        if self.encoder is not None:
            short = (self.log_evidence - self.encoder.log_evidence.double()).mean().item()
            error = error_of_mean(self.encoder.mcse, of_logs=True)
            if short > max(0.01, 3 * math.hypot(error, self.mcse)):
                sentences.append(
                    f"importance sampling with the encoder understates the evidence by {short:.2f} nats per datum: "
                    f"{self.by} finds more"
                )
        ladder = [("the encoder", self.amortized), *((name, fit.elbo) for name, fit in self.families.items())]
        known = [(name, elbo) for name, elbo in ladder if elbo is not None]
        for (lower, below), (upper, above) in pairwise(known):
            mean, se = mean_and_error(above - below)
            if mean < -max(0.01, 2 * se):
                sentences.append(
                    f"the optimum of {upper} lies {-mean:.2f} nats below that of {lower}: it has not converged; take "
                    f"more --local-steps or --num-particles"
                )
        doubtful = next((fit.evidence for name, fit in self.families.items() if self.by.endswith(name)), self.encoder)
        if self.by != "exact" and doubtful is not None and (share := doubtful.doubtful.double().mean().item()) > 0:
            sentences.append(
                f"Pareto k shows that {self.by} is unreliable for {share:.1%} of the data: the evidence may be higher, "
                f"and with it the approximation gap; compare ais"
            )
        return sentences

    def numbers(self) -> dict[str, Any]:
        """Return what ``gap.json`` holds; the gaps are those of the first family."""
        families: dict[str, dict[str, float]] = {}
        for name, fit in self.families.items():
            elbo, se = mean_and_error(fit.elbo)
            families[name] = {
                "elbo": elbo,
                "se": se,
                "seconds_per_datum": fit.seconds_per_datum,
                "steps": fit.steps,
                "iwae": fit.evidence.log_evidence.mean().item(),
                **_keyed({gap: value for gap, value in self.gaps(name).items() if gap != "inference"}),
            }
        log_evidence, log_evidence_se = mean_and_error(self.log_evidence)
        amortized, amortized_se = (None, None) if self.amortized is None else mean_and_error(self.amortized)
        return {
            "num_data": self.num_data,
            "log_evidence": log_evidence,
            "log_evidence_se": log_evidence_se,
            "log_evidence_mcse": self.mcse,
            "log_evidence_by": self.by,
            **({} if self.of is None else {"of": self.of}),
            "elbo_amortized": amortized,
            "elbo_amortized_se": amortized_se,
            "iwae_amortized": None if self.encoder is None else self.encoder.log_evidence.mean().item(),
            "families": families,
            **dict.fromkeys(("approximation_gap", "amortization_gap", "inference_gap")),
            **_keyed(self.gaps(next(iter(self.families)))),
            "warnings": self.warnings(),
        }


COLUMNS = (
    Column("posterior", "posterior"),
    Column("elbo", "ELBO", ".2f"),
    Column("se", "error over data", ".2f"),
    Column("iwae", "IWAE", ".2f", rank=3),
    Column("amortization_gap", "above the encoder", ".3f", error="amortization_gap_se"),
    Column("approximation_gap", "below the evidence", ".3f", error="approximation_gap_se"),
    Column("steps", "steps", ".0f", rank=2),
    Column("seconds_per_datum", "ms per datum", ".2f", scale=1000, rank=1),
)
"""The columns of a table of gaps."""


def gap_table(numbers: Mapping[str, Any], part: str) -> ResultTable:
    """Make the table from the encoder's ELBO to the evidence.

    Args:
        numbers: the numbers of a gap, which may have been read from ``gap.json``.
        part: the part of the data, for the caption.
    """
    rows: dict[str, Mapping[str, Any]] = {}
    if numbers["elbo_amortized"] is not None:
        rows["encoder"] = {
            "elbo": numbers["elbo_amortized"],
            "se": numbers["elbo_amortized_se"],
            "iwae": numbers["iwae_amortized"],
            "approximation_gap": numbers["inference_gap"],  # how far it lies below the evidence
            "approximation_gap_se": numbers.get("inference_gap_se"),
        }
    rows |= numbers["families"]
    rows["evidence"] = {"elbo": numbers["log_evidence"], "se": numbers["log_evidence_se"]}
    what = "evidence, predictive given the fit," if numbers.get("of") == "predictive" else "evidence"
    caption = f"{part}, {numbers['num_data']} data; {what} by {numbers['log_evidence_by']}"
    without_encoder = {
        name: {"amortization_gap": ""} for name, row in rows.items() if row.get("amortization_gap") is None
    }
    return ResultTable(caption, COLUMNS, rows, without_encoder)


def _keyed(gaps: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Name means and errors as JSON does."""
    return {f"{gap}_gap": mean for gap, (mean, _) in gaps.items()} | {
        f"{gap}_gap_se": se for gap, (_, se) in gaps.items()
    }
