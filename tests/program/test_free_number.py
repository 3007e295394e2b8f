"""Operations under vmap that leave the number of data free give PyTorch's own numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ppl_vae.program import seeded
from ppl_vae.program.free_number import FreeNumberOfData

CONVOLUTIONS = [
    nn.Conv1d(2, 3, 4, padding="same", dilation=2, padding_mode="zeros"),
    nn.Conv1d(2, 3, 4, padding="valid"),
    nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), groups=2),
    nn.Conv3d(2, 2, 3, padding=1, bias=False),
    nn.ConvTranspose1d(2, 3, 4, stride=2, padding=1),
    nn.ConvTranspose2d(2, 4, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=2),
]


@pytest.mark.parametrize("module", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("front", [(), (1,), (3,)], ids=str)
@torch.no_grad()
def test_images_are_convolved(module: nn.Module, front: tuple[int, ...]) -> None:
    """An image may have a dimension in front of its channels, or none."""
    rank = module.weight.dim() - 2
    with seeded(0):
        images = torch.randn(5, *front, 2, *(7, 6, 5)[:rank])
    expected = torch.stack([module(image) for image in images])
    with FreeNumberOfData():
        actual = torch.vmap(module)(images)
        assert torch.equal(module(images[0]), expected[0])
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_columns_are_chosen(dim: int) -> None:
    tables, index = torch.arange(60.0).reshape(5, 3, 4), torch.tensor([2, 0, 2])
    tables[0, 0, 0] = float("inf")
    with FreeNumberOfData():
        actual = torch.vmap(lambda table: table.index_select(dim, index))(tables)
    assert torch.equal(actual, tables.index_select(dim + 1 if dim >= 0 else dim, index))


def test_weights_that_differ_by_datum_are_refused() -> None:
    tables, index = torch.zeros(5, 3), torch.zeros(5, 2, dtype=torch.long)
    with FreeNumberOfData(), pytest.raises(NotImplementedError, match="differ by datum"):
        torch.vmap(lambda table, at: table.index_select(0, at))(tables, index)
