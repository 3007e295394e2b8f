"""The check that every datum has a density under a program."""

from __future__ import annotations

from ppl_vae.data import LENGTHS, Batches
from ppl_vae.evaluation.fitted import Fitted
from ppl_vae.evaluation.passes import ROWS_PER_PASS
from ppl_vae.program import are_within, check_observations, fixed_supports


def check_densities(fitted: Fitted, batches: Batches, row: int = 0) -> None:
    """Check that every datum has a density under the program.

    If all arguments are observed, and the support of each is the same for all data, only data outside of it need a run.

    Args:
        fitted: the program.
        batches: the data.
        row: the number of the first datum in the data set.

    Raises:
        InputError: a datum has none, such as a grey value under a Bernoulli; the message names the row.
    """
    posterior, begin = fitted.inference.posterior, fitted.inference.begin
    supports = fixed_supports(posterior, fitted.begun) or ()
    observed = {fitted.arguments[number] for number, _ in supports if number < len(fitted.arguments)}
    by_support = observed >= set(fitted.arguments) - {LENGTHS}  # lengths have a check of their own
    for batch in batches.in_order(batch_size=ROWS_PER_PASS):
        if not (by_support and are_within(supports, batch)):
            check_observations(posterior, begin(batch), row)
        row += len(batch[0])
