"""Variational families: draws against densities, gradients against the whole gradient, starts against a Gaussian."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from ppl_vae.errors import InputError
from ppl_vae.inference.families import Diagonal, Family, FamilyName, Flow, Full, make_family
from tests.helpers.scenarios import normal

SIZES = (1, 2, 5)
FAMILIES: tuple[FamilyName, ...] = ("diagonal", "full", "flow")


def anywhere(kind: FamilyName, size: int, *shape: int) -> tuple[Family, Tensor]:
    """A family, and lambdas ``(*shape, P)`` that are not at its start."""
    family = make_family(kind, size)
    loc, scale = normal(*shape, size, seed=1), (0.4 * normal(*shape, size, seed=2)).exp()
    return family, family.start(loc, scale) + 0.3 * normal(*shape, family.width, seed=3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("noise_of_each", [True, False])
def test_a_draw_has_the_density_of_the_distribution(kind: FamilyName, size: int, noise_of_each: bool) -> None:
    family, lam = anywhere(kind, size, 3)
    assert lam.shape == (3, family.width)
    assert family.size == size
    assert family.pace.shape == (family.width,)
    u, log_q = family.draw(lam, normal(7, 3 if noise_of_each else 1, size, seed=4))
    assert u.shape == (7, 3, size)
    assert log_q.shape == (7, 3)
    torch.testing.assert_close(log_q, family.distribution(lam).log_prob(u), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", FAMILIES)
def test_the_density_is_that_of_the_map(kind: FamilyName, size: int) -> None:
    """log q(u) = log N(noise) - log |det du / dnoise|, the Jacobian by automatic differentiation."""
    family, lam = anywhere(kind, size, 1)
    for noise in normal(4, size, seed=5):

        def at(noise: Tensor) -> Tensor:
            return family.draw(lam, noise[None, None])[0][0, 0]

        jacobian = torch.autograd.functional.jacobian(at, noise)
        expected = -0.5 * (noise.square() + math.log(2 * math.pi)).sum() - jacobian.slogdet().logabsdet
        found = family.draw(lam, noise[None, None])[1][0, 0]
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("kind", FAMILIES)
def test_the_density_is_normalised(kind: FamilyName, size: int) -> None:
    """Over a grid from -12 to 12: a sum of a smooth function that vanishes at both ends is nearly its integral."""
    family, lam = anywhere(kind, size, 1)
    line = torch.linspace(-12, 12, 1201 if size == 1 else 601).double()
    grid = torch.cartesian_prod(*[line] * size).reshape(-1, 1, size)
    total = family.distribution(lam).log_prob(grid).logsumexp(0) + size * (line[1] - line[0]).log()
    assert total.abs() < 1e-3  # a spline's derivative has kinks


@pytest.mark.parametrize("kind", FAMILIES)
def test_samples_are_draws(kind: FamilyName) -> None:
    """The mean of every number, and of every product of two, by the one as by the other."""
    family, lam = anywhere(kind, 3, 2)
    torch.manual_seed(0)
    with torch.no_grad():
        u, v = family.draw(lam, torch.randn(20000, 2, 3).double())[0], family.distribution(lam).sample((20000,))
    for statistic in (lambda w: w, lambda w: w[..., None] * w[..., None, :]):
        a, b = statistic(u), statistic(v)
        error = ((a.var(0) + b.var(0)) / 20000).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() < 4.5 * error).all()


def target(u: Tensor) -> Tensor:
    """A log density that is no Gaussian."""
    return -0.5 * (u - 0.3).square().sum(-1) - 0.1 * u.pow(4).sum(-1) + torch.sin(u.sum(-1))


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("kind", FAMILIES)
def test_the_gradient_of_the_path_is_unbiased(kind: FamilyName, size: int) -> None:
    """The term that is left out is zero on average, compared with the whole gradient for the same noise."""
    family, lam = anywhere(kind, size, 1)
    noise = normal(2000, 1, size, seed=6)
    rows = lam.expand(2000, -1).clone().requires_grad_()  # a gradient for each draw
    u, log_q = family.draw(rows, noise.transpose(0, 1))
    path = torch.autograd.grad((target(u) - log_q).sum(), rows)[0]
    u, _ = family.draw(rows, noise.transpose(0, 1))
    whole = torch.autograd.grad((target(u) - family.distribution(rows).log_prob(u)).sum(), rows)[0]
    difference = path - whole
    error = difference.std(0) / 2000**0.5
    assert (difference.mean(0).abs() < 4.5 * error + 1e-12).all()
    assert (error > 0).any()


@pytest.mark.parametrize("kind", FAMILIES)
def test_at_the_posterior_the_gradient_has_no_noise(kind: FamilyName) -> None:
    """Where q is the target: the reason for leaving that term out."""
    family, lam = anywhere(kind, 3, 2)
    lam = lam.requires_grad_()
    u, log_q = family.draw(lam, normal(5, 2, 3, seed=7))
    (gradient,) = torch.autograd.grad((family.distribution(lam.detach()).log_prob(u) - log_q).sum(), lam)
    assert gradient.abs().max() < 1e-9


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_log_density_on_the_path_is_differentiated_in_the_points_alone(kind: FamilyName) -> None:
    family, lam = anywhere(kind, 2, 3)
    lam, noise = lam.requires_grad_(), normal(4, 3, 2, seed=8)
    u, log_q = family.draw(lam, noise)
    (found,) = torch.autograd.grad(log_q.sum(), lam, retain_graph=True)
    fixed = u.detach().requires_grad_()
    (score,) = torch.autograd.grad(family.distribution(lam.detach()).log_prob(fixed).sum(), fixed)
    (expected,) = torch.autograd.grad((u * score).sum(), lam)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", FAMILIES)
def test_all_start_as_the_gaussian_with_these_moments(kind: FamilyName, size: int) -> None:
    family = make_family(kind, size)
    loc, scale = normal(3, size, seed=1), (0.5 * normal(3, size, seed=2)).exp()
    lam, noise = family.start(loc, scale), 3 * normal(6, 3, size, seed=9)
    u, log_q = family.draw(lam, noise)
    expected = torch.distributions.Normal(loc, scale)
    torch.testing.assert_close(u, loc + scale * noise, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(log_q, expected.log_prob(u).sum(-1), rtol=1e-9, atol=1e-9)


def test_a_flow_leaves_its_start_in_every_part() -> None:
    """No part is at a stationary point that its gradient would never leave, once its last weights have moved."""
    family = Flow(4)
    lam = family.start(normal(1, 4), normal(1, 4).abs()).requires_grad_()
    u, log_q = family.draw(lam, normal(200, 1, 4, seed=10))
    (gradient,) = torch.autograd.grad((target(u) - log_q).mean(), lam)
    moved = (lam + 0.1 * gradient / gradient.norm()).detach().requires_grad_()
    u, log_q = family.draw(moved, normal(200, 1, 4, seed=10))
    (then,) = torch.autograd.grad((target(u) - log_q).mean(), moved)
    assert (then != 0).all()


def test_the_factor_of_a_full_covariance() -> None:
    """Lower triangular, a row at a time relative to its diagonal; every covariance has one."""
    family = Full(3)
    lam = torch.tensor([0.0, 0, 0, *torch.tensor([2.0, 3.0, 5.0]).log().tolist(), 0.5, -1.0, 0.25]).double()
    expected = torch.tensor([[2.0, 0, 0], [1.5, 3, 0], [-5, 1.25, 5]]).double()
    torch.testing.assert_close(family.factor(lam), expected)
    torch.testing.assert_close(family.distribution(lam).covariance_matrix, expected @ expected.T)
    root = normal(3, 3, seed=11)
    covariance = root @ root.T + 0.1 * torch.eye(3)
    factor = torch.linalg.cholesky(covariance)
    diagonal = factor.diagonal()
    below = (factor / diagonal[:, None])[tuple(torch.tril_indices(3, 3, -1))]
    found = family.distribution(torch.cat([torch.zeros(3), diagonal.log(), below]).double())
    torch.testing.assert_close(found.covariance_matrix, covariance)
    u = normal(4, 3, seed=12)
    torch.testing.assert_close(found.log_prob(u), MultivariateNormal(torch.zeros(3).double(), covariance).log_prob(u))


def test_a_full_covariance_of_one_number_is_a_diagonal_one() -> None:
    lam, noise = normal(3, 2, seed=13), normal(4, 3, 1, seed=14)
    for a, b in zip(Full(1).draw(lam, noise), Diagonal(1).draw(lam, noise), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", FAMILIES)
def test_leading_dimensions_are_free(kind: FamilyName, size: int) -> None:
    """As those of a guide are, which may have plates between the data and the event."""
    family, lam = anywhere(kind, size, 2, 3)
    u = normal(4, 2, 3, size, seed=15)
    found = family.distribution(lam).log_prob(u)
    assert found.shape == (4, 2, 3)
    assert family.distribution(lam).rsample((4,)).shape == (4, 2, 3, size)
    for i in range(2):
        torch.testing.assert_close(found[:, i], family.distribution(lam[i]).log_prob(u[:, i]))
        one, log_one = family.draw(lam[i], u[:, i])
        all_of_them, log_all = family.draw(lam, u)
        torch.testing.assert_close(one, all_of_them[:, i])
        torch.testing.assert_close(log_one, log_all[:, i], rtol=1e-9, atol=1e-9)
    alone = family.distribution(lam[0, 0]).log_prob(u[:, 0, 0])
    torch.testing.assert_close(alone, found[:, 0, 0])


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_keep_their_type(kind: FamilyName, dtype: torch.dtype) -> None:
    family = make_family(kind, 3)
    lam = family.start(torch.zeros(2, 3, dtype=dtype), torch.ones(2, 3, dtype=dtype))
    u, log_q = family.draw(lam, torch.randn(4, 1, 3, dtype=dtype))
    assert lam.dtype == u.dtype == log_q.dtype == dtype


@pytest.mark.parametrize("kind", FAMILIES)
def test_single_precision_is_enough(kind: FamilyName) -> None:
    family, lam = anywhere(kind, 4, 3)
    noise = normal(500, 3, 4, seed=16)
    u, log_q = family.draw(lam, noise)
    rough, rough_log_q = family.draw(lam.float(), noise.float())
    assert (u - rough).abs().max() < 1e-4
    assert (log_q - rough_log_q).abs().max() < 1e-3


def test_a_family_that_is_unknown_is_told() -> None:
    with pytest.raises(InputError, match="family='ful' is unknown; did you mean 'full'"):
        make_family("ful", 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [Diagonal, Full, Flow])
def test_names_are_those_of_the_classes(make: Callable[[int], Family]) -> None:
    assert isinstance(make_family(make.__name__.lower(), 2), make)  # type: ignore[arg-type]
