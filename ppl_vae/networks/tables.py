"""Rows of a table whose columns have kinds: as inputs of a network, and as what a decoder describes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from ppl_vae.errors import InputError, nearest
from ppl_vae.networks.distributions import Classes, MixedColumns
from ppl_vae.networks.likelihoods import Likelihood, bounded, make_likelihood

NUMERIC, ORDER = ("real", "positive", "count"), ("real", "positive", "count", "binary", "categorical", "ordinal")
POSITIVE = ("log-normal", "gamma")
Columns = Sequence[Mapping[str, Any]]


class _ColumnsByKind(nn.Module):
    """The columns of a table by their kinds, and the typical values of those that have numbers."""

    center: Tensor
    spread: Tensor
    order: Tensor

    def __init__(self, columns: Columns, data_dim: int | None) -> None:
        super().__init__()
        columns = columns or [{"kind": "real"}] * (data_dim or 0)
        if not columns:
            raise InputError("a table without columns: give columns, or data_dim for real numbers")
        self.columns: dict[str, list[int]] = {kind: [] for kind in ORDER}
        for at, column in enumerate(columns):
            kind = column["kind"] or "real"
            if kind not in ORDER:
                raise InputError(f"column {column.get('name', at)!r} has kind {kind!r}; {nearest(str(kind), ORDER)}")
            self.columns[kind].append(at)
        self.num_classes = [_num_classes(columns[at]) for at in self.columns["categorical"] + self.columns["ordinal"]]
        numeric = [columns[at] for kind in NUMERIC for at in self.columns[kind]]
        self.register_buffer("center", torch.tensor([float(column.get("center", 0.0)) for column in numeric]))
        self.register_buffer("spread", torch.tensor([float(column.get("spread", 1.0)) for column in numeric]))
        order = torch.tensor([at for kind in ORDER for at in self.columns[kind]])
        self.register_buffer("order", order, persistent=False)

    def sizes(self) -> list[int]:
        """Return the number of columns of each kind, in the order of the kinds."""
        return [len(self.columns[kind]) for kind in ORDER]


class TableFeatures(_ColumnsByKind):
    r"""The inputs of a network for the rows of a table.

    A real number is standardised, and pulled in if it is far out, :math:`\mathrm{arsinh}((x - m) / s)`; so is the
    logarithm of a positive number, and :math:`\log(1 + x)` of a count. A class has one input for each of its values.
    Every column has one more input, which is one if its number was observed. What is missing has zeros.

    Args:
        columns: for each column of a row a mapping with its ``kind``, and its ``categories`` if it has some. ``center``
            and ``spread`` are m and s, by default 0 and 1; see ``ppl_vae.data.table_columns``.
        data_dim: number of columns, all of which are real, if no columns are given.

    Example:
        >>> features = TableFeatures([{"kind": "count"}, {"kind": "categorical", "categories": ["a", "b", "c"]}])
        >>> features(torch.tensor([[0.0, 2.0]])).tolist(), features.width
        ([[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]], 6)
    """

    column: Tensor
    code: Tensor

    def __init__(self, columns: Columns = (), data_dim: int | None = None) -> None:
        super().__init__(columns, data_dim)
        first = sum(self.sizes()[:4])
        classes = [(first + at, code) for at, size in enumerate(self.num_classes) for code in range(size)]
        for name, values in zip(("column", "code"), zip(*classes, strict=True) if classes else ((), ()), strict=True):
            self.register_buffer(name, torch.tensor(values, dtype=torch.long), persistent=False)
        self.width = first + len(classes) + len(self.order)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return inputs ``(..., width)``.

        Args:
            x: rows ``(..., D)``.
            mask: true for the numbers that were observed, ``(..., D)``; by default all.
        """
        mask = torch.ones_like(x, dtype=torch.bool) if mask is None else mask
        x = torch.where(mask, x, 1.0).index_select(-1, self.order)  # one belongs to every kind
        known = mask.to(x.dtype).expand(x.shape).index_select(-1, self.order)
        reals, positives, counts, bits = x.split(self.sizes(), -1)[:4]
        numbers = torch.cat([reals, positives.log(), counts.log1p()], -1)
        numbers = torch.cat([torch.asinh((numbers - self.center) / self.spread), 2 * bits - 1], -1)
        numbers = numbers * known[..., : numbers.shape[-1]]
        codes = x.index_select(-1, self.column) == self.code
        return torch.cat([numbers, codes * known.index_select(-1, self.column), known], -1)


class MixedLikelihood(_ColumnsByKind):
    r"""The distribution of the rows of a table, in which every column has a family of its kind.

    | kind | family | outputs of the decoder for a column |
    |---|---|---|
    | real | :math:`\mathcal N(m + s\,o_1,\ s^2 (\mathrm{softplus}(o_2) + \epsilon)^2)` | 2 |
    | positive | log-normal, the same of the logarithm; or gamma, of the mean :math:`e^{m + s\,o_1}` | 2 |
    | count | a likelihood of counts by its name, of the mean :math:`e^{m + s\,o_1}` | 1 to 3 |
    | binary | :math:`\mathrm{Bernoulli}(\mathrm{sigmoid}(o))` | 1 |
    | categorical | :math:`\mathrm{Categorical}(\mathrm{softmax}(o_1, \dots, o_C))` | C |
    | ordinal | ordered logit, :math:`P(x \le c) = \mathrm{sigmoid}(t_c)` with rising thresholds t | C - 1 |

    The thresholds are :math:`t_0 = o_1` and :math:`t_c = t_{c-1} + \mathrm{softplus}(o_{c+1})`.
    The numbers m and s, the ``center`` and the ``spread`` of a column, only set the units in which a network
    computes. Densities are in the units of the data.

    Source: Nazabal, Olmos, Ghahramani and Valera, Handling Incomplete Heterogeneous Data using VAEs (2020), section 3;
    there the thresholds of ordinal columns depend on the component of the prior, here on all of the latent.

    Args:
        columns, data_dim: see ``TableFeatures``.
        positive: family of positive numbers, log-normal or gamma.
        count: likelihood of counts: poisson, negative-binomial, rounded-log-normal, or one of these that is
            zero-inflated, such as zero-inflated-poisson.
        min_scale: :math:`\epsilon`; without it, the evidence of a number that is predicted exactly would have no
            upper bound.

    Attributes:
        width: number of outputs of the decoder.

    Example:
        >>> likelihood = MixedLikelihood([{"kind": "real"}, {"kind": "ordinal", "categories": [1, 2, 3, 4]}])
        >>> row = likelihood(torch.zeros(5, likelihood.width))
        >>> row.log_prob(torch.tensor([0.5, 3.0])).shape, likelihood.width
        (torch.Size([5, 2]), 5)
    """

    places: Tensor
    most: Tensor
    at: Tensor

    def __init__(
        self,
        columns: Columns = (),
        data_dim: int | None = None,
        positive: str = "log-normal",
        count: str | Likelihood = "negative-binomial",
        min_scale: float = 1e-2,
    ) -> None:
        super().__init__(columns, data_dim)
        if positive not in POSITIVE:
            raise InputError(f"positive={positive!r} is unknown; {nearest(positive, POSITIVE)}")
        self.positive, self.count, self.min_scale = positive, make_likelihood(count), min_scale
        reals, positives, counts, bits, _, ordinals = self.sizes()
        self.num_ordinal, classes = ordinals, self.num_classes
        of_classes = [size - (at >= len(classes) - ordinals) for at, size in enumerate(classes)]
        self.widths = [2 * reals, 2 * positives, self.count.outputs * counts, bits, sum(of_classes)]
        self.width = sum(self.widths)
        self.register_buffer("places", self.order.argsort(), persistent=False)
        self.register_buffer("most", torch.tensor(classes, dtype=torch.long) - 1, persistent=False)
        most, starts = max(classes, default=0), [sum(of_classes[:at]) for at in range(len(classes))]
        pairs = zip(starts, of_classes, strict=True)
        at = [start + min(code, size - 1) for start, size in pairs for code in range(most)]
        self.register_buffer("at", torch.tensor(at, dtype=torch.long).reshape(len(classes), most), persistent=False)

    def forward(self, out: Tensor) -> MixedColumns:
        """Return the distribution of rows, of batch shape ``(..., D)``, given outputs ``(..., width)``."""
        reals, positives, counts, bits, classes = out.split(self.widths, -1)
        of_kind = [len(self.columns[kind]) for kind in NUMERIC]
        pairs = zip(self.center.split(of_kind), self.spread.split(of_kind), strict=True)
        real, positive, count = ((center.to(out), spread.to(out)) for center, spread in pairs)
        parts: list[Any] = []
        if reals.shape[-1]:
            parts.append(dist.Normal(*self._gaussian(reals, *real)))
        if positives.shape[-1]:
            parts.append(self._positive(positives, *positive))
        if counts.shape[-1]:
            parts.append(self._count(counts, *count))
        if bits.shape[-1]:
            parts.append(dist.Bernoulli(logits=bits))
        if classes.shape[-1]:
            parts.append(self._classes(classes))
        return MixedColumns(parts, self.order, self.places)

    def _gaussian(self, out: Tensor, center: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        loc, raw = out.chunk(2, -1)
        return center + spread * loc, spread * (functional.softplus(raw) + self.min_scale)

    def _positive(self, out: Tensor, center: Tensor, spread: Tensor) -> dist.TorchDistribution:
        loc, deviation = self._gaussian(out, center, spread)
        if self.positive == "log-normal":
            return dist.LogNormal(loc, bounded(deviation))
        shape = deviation**-2  # the standard deviation divided by the mean is that of the logarithm, if it is small
        return dist.Gamma(shape, shape * (-loc).exp())

    def _count(self, out: Tensor, center: Tensor, spread: Tensor) -> dist.TorchDistribution:
        """Return the distribution in double precision: log factorials of large counts have no decimals in single."""
        log_mean, *others = out.chunk(self.count.outputs, -1)
        return self.count(torch.cat([center + spread * log_mean, *others], -1).double())

    def _classes(self, out: Tensor) -> Classes:
        """Return the distribution of categorical columns, and of ordinal ones after them."""
        out = out.index_select(-1, self.at.flatten()).unflatten(-1, self.at.shape)
        logits, steps = out.split([len(self.at) - self.num_ordinal, self.num_ordinal], -2)
        code = torch.arange(self.at.shape[-1], device=out.device)
        if self.num_ordinal:
            logits = torch.cat([logits, _ordered_logits(steps, code, self.most[-self.num_ordinal :, None])], -2)
        return Classes(logits.masked_fill(code > self.most[:, None], -math.inf), self.most)


def _ordered_logits(out: Tensor, code: Tensor, most: Tensor) -> Tensor:
    r"""Return log probabilities of ordered classes, ``(..., n, C)``, given the threshold of the first and the steps.

    .. math:: \log(\sigma(t_c) - \sigma(t_{c-1})) = \log\sigma(t_c) + \log\sigma(-t_{c-1}) + \log(1 - e^{-d_c})

    with :math:`d_c = t_c - t_{c-1}`; the first and the last class have one term alone.
    """
    step = functional.softplus(out[..., 1:]) + 1e-6
    threshold = torch.cat([out[..., :1], out[..., :1] + step.cumsum(-1)], -1)
    first, last = code == 0, code == most
    below = functional.logsigmoid(threshold).masked_fill(last, 0.0)
    above = functional.logsigmoid(-threshold.roll(1, -1)).masked_fill(first, 0.0)
    apart = torch.log(-torch.expm1(-functional.pad(step, (1, 0), value=1.0))).masked_fill(first | last, 0.0)
    return below + above + apart


def _num_classes(column: Mapping[str, Any]) -> int:
    """Return the number of categories of a column; two if none are named, because its codes are 0 and 1."""
    return max(2, len(column.get("categories") or ()))
