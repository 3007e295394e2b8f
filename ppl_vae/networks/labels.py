"""Labels and classes as what a network sees, and as what chooses among its outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ppl_vae.errors import InputError
from ppl_vae.networks.perceptrons import Activation, mlp


def one_hot(labels: Tensor, num_classes: int, like: Tensor) -> Tensor:
    """A one at the place of the label, ``(..., num_classes)``; zeros where it is unknown, -1.

    Args:
        labels: whole numbers from -1 to ``num_classes - 1``, ``(...)``.
        num_classes: how many classes there are.
        like: whose dtype and device the numbers take.

    Raises:
        InputError: a label is out of range.

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
    """Tensors side by side in their last dimension; the leading ones are broadcast.

    Example:
        >>> join(torch.zeros(10, 1, 1, 4), torch.zeros(5, 3, 2)).shape
        torch.Size([10, 5, 3, 6])
    """
    lead = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*lead, part.shape[-1]) for part in parts], -1)


class ClassGaussian(nn.Module):
    r"""An MLP to the parameters of a Gaussian with diagonal covariance for every class, of which one is taken.

    .. math:: (\mu_1, s_1, \dots, \mu_C, s_C) = \mathrm{MLP}(w), \qquad \sigma_c = \mathrm{softplus}(s_c) + 10^{-2}

    Args:
        num_classes: C.
        input_dim: size of w.
        latent_dim: size of the Gaussian.
        hidden: widths of the hidden layers.
        activation: the nonlinearity after each hidden layer.

    Example:
        >>> every = torch.arange(10)[:, None, None]  # as a class is enumerated
        >>> loc, scale = ClassGaussian(10, input_dim=5, latent_dim=2)(torch.zeros(4, 3, 5), every)
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
        """Mean and standard deviation, each ``(..., latent_dim)``, given w ``(..., input_dim)`` and classes ``(...)``.

        The leading dimensions of w and c are broadcast.
        """
        every = self.net(w).unflatten(-1, (self.num_classes, -1))
        loc, raw = (one_hot(c, self.num_classes, like=w)[..., None] * every).sum(-2).chunk(2, -1)
        return loc, functional.softplus(raw) + 1e-2
