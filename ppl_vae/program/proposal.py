"""A guide with wider or heavier tails, which is a safer proposal for importance sampling."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample

from ppl_vae.errors import InputError
from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.supports import is_discrete


def widened(program: BoundProgram, scale: float = 1.0, df: float | None = None) -> BoundProgram:
    r"""Return the program with every Gaussian of its guide widened, or replaced by a Student-t.

    .. math:: \mathcal N(\mu, \sigma) \to t_\nu(\mu, s\,\sigma)

    A proposal with lighter tails than the posterior gives importance weights of infinite variance; a wider one costs
    some efficiency and bounds the weights (Owen, Monte Carlo theory, methods and examples, 2013, chapter 9).
    Gaussians inside a transformed distribution, such as a LogNormal's, are widened too. Model and parameters are
    shared.

    Args:
        program: a program with a guide.
        scale: the factor ``s`` of the scales.
        df: the degrees of freedom of the Student-t; None keeps Gaussians.

    Raises:
        InputError: scale or df is not positive; a site of the guide has no Gaussian to widen (when it is run).

    Example:
        >>> import torch
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> x = torch.ones(3, 64)
        >>> widened(Program(VAE()).bind((x,)), scale=1.2, df=5).log_weights((x,), 7).shape
        torch.Size([7, 3])
    """
    if not 0 < scale < math.inf:
        raise InputError(f"proposal_scale is {scale}: expected a positive number; 1 leaves the guide as it is")
    if df is not None and not 0 < df < math.inf:
        raise InputError(f"proposal_df is {df}: expected a positive number of degrees of freedom, or null for none")
    if scale == 1.0 and df is None:
        return program
    if program.guide is None:
        raise InputError(f"{program.name} has no guide to widen: leave out --proposal-scale and --proposal-df")
    return program.derive(guide=_Widen(program.name, scale, df)(program.guide), structure=program.structure)


class _Widen(Messenger):
    """A handler that replaces the distributions of a guide's continuous sites; discrete ones stay as they are."""

    def __init__(self, program: str, scale: float, df: float | None) -> None:
        super().__init__()
        self.program, self.scale, self.df = program, scale, df

    def _pyro_sample(self, msg: Any) -> None:
        if not (site_is_subsample(msg) or msg["is_observed"] or is_discrete(msg["fn"])):
            wider = self._wider(msg["fn"])
            if wider is None:
                base = msg["fn"]
                while isinstance(base, torch.distributions.Independent | dist.MaskedDistribution):
                    base = base.base_dist
                raise InputError(
                    f"the guide of {self.program} draws {msg['name']!r} from a {type(base).__name__}, which has no "
                    f"Gaussian to widen: leave out --proposal-scale and --proposal-df"
                )
            msg["fn"] = wider

    def _wider(self, fn: Any) -> Any:
        """Return the distribution with every Gaussian in it widened; None if it has none."""
        scale, df = self.scale, self.df
        if isinstance(fn, torch.distributions.Normal):
            return dist.Normal(fn.loc, fn.scale * scale) if df is None else dist.StudentT(df, fn.loc, fn.scale * scale)
        if isinstance(fn, torch.distributions.MultivariateNormal | torch.distributions.LowRankMultivariateNormal):
            tril = fn.scale_tril * scale
            if df is None:
                return dist.MultivariateNormal(fn.loc, scale_tril=tril)
            return dist.MultivariateStudentT(fn.loc.new_full(fn.batch_shape, df), fn.loc, tril)
        base = self._wider(fn.base_dist) if hasattr(fn, "base_dist") else None
        if base is None:
            return None
        if isinstance(fn, torch.distributions.Independent):
            return base.to_event(fn.reinterpreted_batch_ndims)
        if isinstance(fn, dist.ExpandedDistribution):
            return base.expand(fn.batch_shape)
        if isinstance(fn, dist.MaskedDistribution):
            return base.mask(fn._mask)
        if not all(transform.bijective for transform in fn.transforms):  # a HalfNormal folds its Gaussian
            return None
        return dist.TransformedDistribution(base, list(fn.transforms))
