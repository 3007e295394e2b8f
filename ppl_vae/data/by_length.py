"""Batches of sequences of similar length, so that few of their steps are padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def order_by_length(lengths: Tensor, sizes: Sequence[int], together: int, seed: int) -> Tensor:
    r"""Return an order of rows in which the batches that are cut from it have sequences of similar length.

    The rows are in a random order before. Those of :math:`K` successive batches, a pool, are sorted by length, and cut
    into as many batches of the same sizes. The batches of a pool are then visited in a random order, whatever their
    lengths, so that each of them comes at every place equally often; every row is visited once.

    The batches of a pool are a stratified sample of it: their mean is the mean of the pool, but one of them knows one
    stratum only. If a function of a datum has the variance :math:`\sigma^2`, of which the length explains the share
    :math:`\eta^2`, then its mean over a batch of :math:`B` rows has about the variance

    .. math:: \frac{\sigma^2}{B} \bigl(1 - \eta^2 + \eta^2 B\bigr),

    where that of a full shuffle is :math:`\sigma^2 / B`. The mean over the :math:`K` batches of a pool has the variance
    of a full shuffle, :math:`\sigma^2 / (K B)`.

    Args:
        lengths: the length of each sequence, ``(N,)``, in a random order.
        sizes: the number of rows of each batch, which add up to ``N``.
        together: the number of batches in a pool, ``K``; with one, a batch has the rows of a full shuffle.
        seed: seed of the order of the batches. Processes that train together have the same one, so that the lengths of
            their parts of a batch are alike.

    Returns:
        The place in ``lengths`` of every row, ``(N,)``.

    Example:
        >>> lengths = torch.tensor([5, 1, 4, 1, 5, 2, 3])
        >>> order = order_by_length(lengths, [2, 2, 2, 1], together=4, seed=0)
        >>> [part.tolist() for part in lengths[order].split([2, 2, 2, 1])]
        [[1, 1], [2, 3], [5, 5], [4]]
    """
    random, parts, start = torch.Generator().manual_seed(seed), [], 0
    for first in range(0, len(sizes), together):
        pool = torch.tensor(sizes[first : first + together])
        ascending = lengths[start : start + int(pool.sum())].argsort(stable=True) + start
        ranks = torch.randperm(len(pool), generator=random)  # the place among the lengths of each batch
        strata = ascending.split(pool[ranks.argsort()].tolist())
        parts += [strata[rank] for rank in ranks.tolist()]
        start += int(pool.sum())
    return torch.cat(parts)
