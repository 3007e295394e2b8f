"""Labels and classes as inputs of a network, and as a choice among its outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ppl_vae.errors import InputError
from ppl_vae.networks.perceptrons import Activation, mlp


def one_hot(labels: Tensor, num_classes: int, like: Tensor) -> Tensor:
    """Return vectors ``(..., num_classes)`` with a one at the place of the label; zeros for an unknown label, -1.

    Args:
        labels: whole numbers from -1 to ``num_classes - 1``, ``(...)``.
        num_classes: number of classes.
        like: tensor of the dtype and on the device of the result.

    Raises:
        InputError: if a label is out of range.

    Example:
        >>> one_hot(torch.tensor([2, -1]), 3, like=torch.zeros(()))
        tensor([[0., 0., 1.],
                [0., 0., 0.]])
    """
    rows = torch.eye(num_classes + 1, dtype=like.dtype, device=like.device)[:, 1:]
    try:
        return rows[labels.long() + 1]
    except IndexError:
        raise InputError(
            f"a label is {int(labels.max())}, the model has {num_classes} classes, numbered from 0: raise num_classes"
        ) from None


def join(*parts: Tensor) -> Tensor:
    """Join tensors in their last dimension; the leading dimensions are broadcast.

    Example:
        >>> join(torch.zeros(10, 1, 1, 4), torch.zeros(5, 3, 2)).shape
        torch.Size([10, 5, 3, 6])
    """
    lead = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*lead, part.shape[-1]) for part in parts], -1)


class ClassGaussian(nn.Module):
    r"""An MLP to a diagonal Gaussian for every class, and the choice of one of them.

    .. math:: (\mu_1, s_1, \dots, \mu_C, s_C) = \mathrm{MLP}(w), \qquad \sigma_c = \mathrm{softplus}(s_c) + 10^{-2}

    Args:
        num_classes: C.
        input_dim: size of w.
        latent_dim: size of the Gaussian.
        hidden: widths of the hidden layers.
        activation: the nonlinearity after each hidden layer.

    Example:
        >>> classes = torch.arange(10)[:, None, None]  # as Pyro enumerates a class
        >>> loc, scale = ClassGaussian(10, input_dim=5, latent_dim=2)(torch.zeros(4, 3, 5), classes)
        >>> loc.shape, scale.shape
        (torch.Size([10, 4, 3, 2]), torch.Size([10, 4, 3, 2]))
    """

    def __init__(
        self,
        num_classes: int,
        input_dim: int,
        latent_dim: int,
        hidden: Sequence[int] = (64,),
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.net = mlp([input_dim, *hidden, num_classes * 2 * latent_dim], activation)

    def forward(self, w: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation ``(..., latent_dim)``, given w ``(..., input_dim)`` and classes ``(...)``.

        The leading dimensions of w and c are broadcast.
        """
        by_class = self.net(w).unflatten(-1, (self.num_classes, -1))
        loc, raw = (one_hot(c, self.num_classes, like=w)[..., None] * by_class).sum(-2).chunk(2, -1)
        return loc, functional.softplus(raw) + 1e-2
