"""Missing numbers in data, filled in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ppl_vae.display import bars
from ppl_vae.errors import InputError
from ppl_vae.estimator import VariationalInference
from ppl_vae.evaluation.arguments import make_batches
from ppl_vae.evaluation.passes import apply_to_each, room_for
from ppl_vae.evaluation.results import join
from ppl_vae.inference import Compiler, FamilyName, Method, PerSample, PerSampleOptions, random_latents
from ppl_vae.inference.options import Count, check_value, options_of
from ppl_vae.program import (
    Batch,
    BoundProgram,
    Draws,
    LatentSpace,
    check_observations,
    coded_columns,
    placed,
    with_modes,
    without_guide,
)
from ppl_vae.uses._imputation import Imputation
from ppl_vae.uses._partly_seen import read_partly_seen
from ppl_vae.uses.description import Caption, describe_use

ImputeBy = Literal["per-sample", "importance"]
INTERVAL = (0.05, 0.95)
ENOUGH = 30
"""Number of effective draws at which weights are no longer tempered."""
MOST_WITH_COVARIANCE = 100
"""The most latent dimensions of a datum for which a full covariance is fitted by default."""


@describe_use(
    "generation",
    impute=Caption("uses", "Missing entries filled in", "Observed values, and draws and means of the missing ones."),
)
def impute(
    vi: VariationalInference,
    *arrays: Any,
    missing: Mapping[str, np.ndarray] | None = None,
    num_samples: int = 1000,
    num_draws: int = 8,
    method: ImputeBy = "per-sample",
    family: FamilyName | None = None,
    verbose: bool = True,
) -> Imputation:
    r"""Fill in missing values by draws given the observed ones.

    .. math::
        p(x_{\mathrm{mis}} \mid x_{\mathrm{obs}}) \approx
        \sum_k \bar w_k\, p(x_{\mathrm{mis}} \mid z_k, x_{\mathrm{obs}}), \qquad
        w_k = \frac{p(x_{\mathrm{obs}}, z_k)}{q(z_k)}, \quad z_k \sim q

    The likelihood of what is missing is masked out inside the program's own observation sites. The proposal q has two
    forms. With per-sample, lambda is optimised for what was seen of each datum by black-box variational inference.
    With importance, q is the guide of the program, which sees the column's mean in place of a missing number.

    The means, standard deviations and intervals are those of all weighted draws, and ``num_draws`` of them are drawn
    again by their weights. If fewer than 30 draws carry the weight, the weights are tempered until 30 do; the answer
    then lies between that of importance sampling and that of variational inference. Discrete latents that are summed
    out are drawn exactly, given the other latents.

    Source: Mattei and Frellsen, MIWAE: Deep Generative Modelling and Imputation of Incomplete Data Sets (2019), section
    3.2, equation 13, for the importance weighting.

    Args:
        vi: a fitted program.
        arrays: the data, in the order of the model's arguments, or one mapping; what is missing is NaN.
        missing: Boolean arrays by the names of the arrays, true for a number that is missing although it is not NaN.
        num_samples: number of draws per datum, K.
        num_draws: number of completed data for each datum, ``S``.
        method: per-sample or importance, see above.
        family: family of a per-sample proposal; by default full, and diagonal above 100 latent dimensions.
        verbose: If True, show a bar on a terminal or in a notebook if the work takes longer than two seconds.

    Returns:
        Imputation: ``filled.plot()`` draws it, ``vi.to_frame(filled.completed)`` is the completed table.

    Raises:
        InputError: a missing number is observed by no site, or is part of an event whose numbers depend on each other
            in no known way; or the method is importance and the program has no guide.

    Example:
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.mixture import Mixture
        >>> x = np.random.default_rng(0).normal(size=(50, 1)) * [1.0, 2.0]
        >>> vi = VariationalInference(Mixture(num_components=2), max_epochs=1).fit(x)
        >>> holes = np.where([True, False], x[:3], np.nan)
        >>> filled = impute(vi, holes)
        >>> filled.mean["x"].shape, filled.missing["x"][0]
        ((3, 2), array([False,  True]))
        >>> bool((filled.mean["x"][:, 0] == holes[:, 0].astype("f")).all())
        True
    """
    check_value("num_samples", num_samples, Count)
    check_value("num_draws", num_draws, Count)
    check_value("method", method, ImputeBy)
    filled, holes, masked = read_partly_seen(vi, arrays, missing or {})
    coded = coded_columns(vi.program_)
    names = (*vi.arguments_, *(mask for mask in filled if mask not in vi.arguments_))
    with bars.verbose(verbose), masked.running(seed=vi.seed, training=False):
        proposal, optimiser = _make_proposal(vi, masked, method, family)
        begun = optimiser.begin(masked.template) if optimiser else masked.template
        rows, room = vi.fitted.rows_to_infer, room_for(partial(proposal.log_weights, begun), len(begun[0]))
        at_once = min(rows, room.rows(num_samples))
        batches = make_batches(filled, names, rows, vi.fitted.device, vi.fitted.dtype)
        row = 0
        for batch in batches.in_order():
            check_observations(proposal, optimiser.begin(batch) if optimiser else batch, row)
            row += len(batch[0])

        def fill_in(batch: Batch) -> list[dict[str, Any]]:
            parts = []
            inferred = optimiser.infer(batch) if optimiser else batch
            for row in range(0, len(batch[0]), at_once):
                few = tuple(tensor[row : row + at_once] for tensor in inferred)
                log_weight, draws = proposal.weighted_posterior(few, num_samples, completed=True)
                part = _summarize(log_weight.double(), draws, num_draws, coded)
                part["completed"] = _complete(vi, masked, few[: len(batch)], part["mean"])
                parts.append(part)
                bar.update(len(few[0]))
            return parts

        with bars.progress_bar("impute", row, "datum") as bar:
            parts = list(chain.from_iterable(apply_to_each(fill_in, batches, rows, vi.seed, vi.fitted.place)))
    imputation = _join(parts)
    completed = {  # what was seen keeps its value, whatever the precision of the program
        name: np.where(holes[name], array, filled[name]) for name, array in imputation.completed.items()
    }
    columns = {
        site: vi.fitted.naming.describe(site, missing.shape[1:], vi.arguments_, coded.get(site, ()))
        for site, missing in imputation.missing.items()
    }
    return imputation._replace(completed=completed, columns=columns)


def _make_proposal(
    vi: VariationalInference, masked: BoundProgram, method: ImputeBy, family: FamilyName | None
) -> tuple[BoundProgram, Method | None]:
    """Return the program whose guide proposes latents of data that are partly seen, and the method that optimises it.

    Args:
        vi: the fitted program.
        masked: the program of data that are partly seen.
        method: see ``impute``.
        family: see ``impute``.
    """
    if random_latents(masked) and method == "per-sample":
        size = LatentSpace(without_guide(masked)).size
        family = family or ("full" if size <= MOST_WITH_COVARIANCE else "diagonal")
        options = options_of(vi, PerSampleOptions)
        options = replace(options, family=family, gradient="reparam", local_learning_rate=None)
        optimiser = PerSample(masked, masked.template, options)
        optimiser.compiler = Compiler(vi.compile)
        return optimiser.posterior, optimiser
    if random_latents(masked) and masked.guide is None:
        raise InputError(f"{masked.name} was fitted without an encoder: impute with method per-sample")
    return masked, None


def _complete(
    vi: VariationalInference, masked: BoundProgram, data: Batch, mean: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the arguments with these numbers in them; nothing if a site observes what is computed of them."""
    classes = vi.fitted.classes
    mean = {name: value.argmax(-1) if name in classes else value for name, value in mean.items()}
    try:
        arguments = [name for name in vi.arguments_ if name not in vi.fitted.naming.holes.masks]
        return dict(zip(arguments, placed(masked, data, mean), strict=False))
    except InputError:
        return {}


def _summarize(
    log_weight: Tensor, draws: Draws, num_draws: int, coded: Mapping[str, tuple[int, ...]]
) -> dict[str, Any]:
    """Return the fields of an ``Imputation`` for one batch, but for the completed arrays."""
    num_samples = len(log_weight)
    by_site = ("mean", "sd", "lower", "upper", "draws", "probabilities", "missing")
    fields: dict[str, Any] = {field: {} for field in by_site}
    fields["log_evidence"] = log_weight.logsumexp(0) - math.log(num_samples)
    fields["effective"] = effective_number(log_weight.softmax(0))
    weights = tempered(log_weight).softmax(0)
    again = torch.multinomial(weights.T, num_draws, replacement=True).T
    for name, x in draws.observed.items():
        data = draws.data[name]
        known = ~torch.isnan(data)
        w = weights.to(x.dtype if x.is_floating_point() else data.dtype).reshape(*weights.shape, *[1] * (x.dim() - 2))
        if (shares := draws.means[name]).dim() > x.dim():  # of classes, with one for the class of what was seen
            mean = torch.where(known[..., None], shares[0], (w[..., None] * shares).sum(0))
            fields["mean"][name], fields["sd"][name] = mean, (mean * (1 - mean)).clamp(min=0).sqrt()
        else:
            mean = (w * shares).sum(0)
            sd = (w * (x - mean).square()).sum(0).sqrt()
            if name in coded:
                fields["probabilities"][name] = average = (w[..., None] * draws.shares[name]).sum(0)
                mean, most = with_modes(mean, average, coded[name]), average.max(-1).values.clamp(max=1)
                sd = sd.index_copy(-1, torch.tensor(coded[name], device=sd.device), (most * (1 - most)).sqrt())
            fields["mean"][name] = torch.where(known, data.to(mean.dtype), mean)
            fields["sd"][name] = torch.where(known, 0.0, sd)
            for field, share in zip(("lower", "upper"), INTERVAL, strict=True):
                fields[field][name] = torch.where(known, data, weighted_quantile(x, w, share))
        index = again.reshape(*again.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])
        fields["draws"][name] = x.gather(0, index)
        fields["missing"][name] = ~known
    return fields


def tempered(log_weight: Tensor) -> Tensor:
    r"""Multiply log weights ``(K, B)`` by the largest :math:`\alpha \le 1` that leaves each datum enough draws.

    If the proposal is good, the weights stay as they are. If a few draws have nearly all of the weight, an average is
    one over these few, and the proposal itself, :math:`\alpha = 0`, is the better answer. The result lies between both.
    Source: Koblents and Miguez, A population Monte Carlo scheme with transformed weights (2015), section 3.

    Example:
        >>> log_weight = torch.tensor([0.0, -50.0] * 100)[:, None]  # 100 draws are enough
        >>> bool(torch.equal(tempered(log_weight), log_weight)), tempered(torch.arange(200.0)[:, None]).max() < 200
        (True, tensor(True))
    """
    enough = min(ENOUGH, len(log_weight) / 2)
    low, high = torch.zeros_like(log_weight[0]), torch.ones_like(log_weight[0])
    whole = effective_number(log_weight.softmax(0)) >= enough
    for _ in range(30):
        middle = (low + high) / 2
        fine = effective_number((middle * log_weight).softmax(0)) >= enough
        low, high = torch.where(fine, middle, low), torch.where(fine, high, middle)
    return torch.where(whole, log_weight, low * log_weight)


def effective_number(weights: Tensor) -> Tensor:
    """Return the effective number of draws for weights ``(K, B)`` that sum to one: ``(B,)`` (Kong 1992)."""
    return 1 / weights.square().sum(0)


def weighted_quantile(draws: Tensor, weights: Tensor, share: float) -> Tensor:
    """Return the smallest draw up to which the weights of draws ``(K, ...)``, which sum to one, reach a share.

    Example:
        >>> weighted_quantile(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([0.5, 0.2, 0.3]), 0.5)
        tensor(2.)
    """
    ordered, order = draws.sort(0)
    reached = weights.expand_as(draws).gather(0, order).cumsum(0) >= share - 1e-6
    return ordered.gather(0, reached.to(torch.uint8).argmax(0, keepdim=True))[0]


def _join(parts: list[dict[str, Any]]) -> Imputation:
    fields: dict[str, Any] = {}
    for field, first in parts[0].items():
        values = [part[field] for part in parts]
        by_site = isinstance(first, dict)
        fields[field] = join(values, int(field == "draws")) if by_site else torch.cat(values).cpu().numpy()
    return Imputation(**fields)


def score_missing(truth: np.ndarray, mean: np.ndarray, missing: np.ndarray) -> dict[str, float]:
    r"""Score means of missing numbers: the root mean squared error, and the log loss if the numbers are bits.

    .. math:: -\frac1M \sum_m x_m \log \mu_m + (1 - x_m) \log(1 - \mu_m), \quad \text{nats}

    Classes have their accuracy, the share of them that are the most probable class, and their log loss.

    A mean that is less than a thousandth away from 0 or 1 counts as one a thousandth away.

    Args:
        truth: the true numbers, ``(N, ...)``.
        mean: the means that were filled in, ``(N, ...)``, or the probabilities of the classes, ``(N, ..., C)``.
        missing: true for the numbers that count, ``(N, ...)``.

    Returns:
        dict[str, float]: the scores by name.

    Example:
        >>> score_missing(np.array([1.0, 0.0]), np.array([0.5, 0.5]), np.array([True, True]))
        {'root mean squared error': 0.5, 'log loss': 0.693...}
    """
    x, m = truth[missing].astype(float), mean[missing].astype(float)
    if mean.ndim > truth.ndim:
        share = m[np.arange(len(x)), x.astype(int)].clip(1e-3)
        return {"accuracy": float((m.argmax(-1) == x).mean()), "log loss": float(-np.log(share).mean())}
    scores = {"root mean squared error": float(np.sqrt(np.square(x - m).mean()))}
    if np.isin(truth, (0, 1)).all():
        share = m.clip(1e-3, 1 - 1e-3)
        scores["log loss"] = float(-(x * np.log(share) + (1 - x) * np.log1p(-share)).mean())
    return scores


def column_means(truth: np.ndarray, missing: np.ndarray, classes: int = 0) -> np.ndarray:
    """Return the mean of what was seen in each column, or of everything seen if nothing was: ``(N, ...)``.

    If the numbers are classes, return the shares of the ``classes`` instead, ``(N, ..., C)``.

    Example:
        >>> column_means(np.array([[1.0, 5.0], [3.0, 7.0]]), np.array([[False, True], [False, True]]))
        array([[2., 2.],
               [2., 2.]])
    """
    if classes:
        indicators = truth[..., None] == np.arange(classes)
        return column_means(indicators, np.broadcast_to(missing[..., None], indicators.shape))
    seen = np.where(missing, 0, truth)
    count = (~missing).sum(0)
    overall = seen.sum() / max(1, (~missing).sum())
    return np.broadcast_to(np.where(count > 0, seen.sum(0) / np.maximum(count, 1), overall), truth.shape)
