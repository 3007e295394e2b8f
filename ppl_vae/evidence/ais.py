"""Annealed importance sampling: the log evidence of every datum from chains that go from a start to a target."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ppl_vae.errors import InputError, nearest
from ppl_vae.evidence.estimate import MOST_BELIEVABLE_ERROR, Evidence, Progress, log_mean, refuse_nan
from ppl_vae.evidence.hmc import ChainState, LogDensities, Propose, evaluate, move

Draw = Callable[[int], Tensor]
"""A function from ``C`` to that many independent draws of the start density, ``(C, B, D)``, in unconstrained space."""

TemperatureSchedule = Literal["linear", "sigmoidal"]
"""The spacing of the temperatures between 0 and 1: even, or closer at both ends."""

TARGET_ACCEPTANCE = 0.65
"""The most efficient acceptance of Hamiltonian Monte Carlo: Neal, MCMC using Hamiltonian dynamics (2011), 4.4."""

WARM_UP_MOVES = 20
"""Number of transitions of the pilot run before the first temperature."""

MIN_PILOT_MOVES = 100
"""Smallest number of transitions of the pilot run over all temperatures; a short path has several at each."""

GAIN = 0.5
"""Change of the log step size of the pilot run for each unit by which the acceptance is off."""


class Annealing(NamedTuple):
    """The settings of annealing."""

    num_temperatures: int = 300
    """``T``, the number of steps from the start density to the target, with one transition between two steps."""
    num_chains: int = 16
    """``C``, the number of independent chains for each datum."""
    schedule: TemperatureSchedule = "sigmoidal"
    """The spacing of the temperatures."""
    num_leapfrog: int = 2
    """``L``, the number of leapfrog steps of a transition."""


def temperatures(num: int, schedule: TemperatureSchedule = "sigmoidal") -> Tensor:
    r"""Return the inverse temperatures of the path, from 0 to 1.

    .. math::
        \beta_t = \frac tT \qquad\text{or}\qquad
        \beta_t = \frac{\tilde\beta_t - \tilde\beta_0}{\tilde\beta_T - \tilde\beta_0}, \quad
        \tilde\beta_t = \mathrm{sigmoid}\Bigl(\delta\bigl(\tfrac{2t}T - 1\bigr)\Bigr), \quad \delta = 4

    Source: Grosse, Ghahramani and Adams, Sandwiching the marginal likelihood using bidirectional Monte Carlo (2015).

    Args:
        num: ``T``, the number of steps.
        schedule: ``"linear"`` or ``"sigmoidal"``.

    Returns:
        Tensor: ``(T + 1,)``, in double precision.

    Example:
        >>> temperatures(4, "linear").tolist()
        [0.0, 0.25, 0.5, 0.75, 1.0]
        >>> [round(beta, 3) for beta in temperatures(4, "sigmoidal").tolist()]
        [0.0, 0.105, 0.5, 0.895, 1.0]
    """
    even = torch.linspace(0, 1, num + 1, dtype=torch.double)
    if schedule == "linear":
        return even
    curve = torch.sigmoid(4 * (2 * even - 1))
    return (curve - curve[0]) / (curve[-1] - curve[0])


def num_steps(settings: Annealing, *, sandwich: bool = False) -> int:
    """Return the number of temperatures of a run and its pilot run, which is the number of calls of ``progress``.

    Args:
        settings: the settings of annealing.
        sandwich: True if chains run in both directions, as in :func:`~ppl_vae.evidence.bdmc.bdmc`.

    Example:
        >>> num_steps(Annealing(num_temperatures=100)), num_steps(Annealing(num_temperatures=100), sandwich=True)
        (200, 300)
    """
    return settings.num_temperatures * (3 if sandwich else 2)


@torch.no_grad()
def ais(chains: Chains) -> Evidence:
    r"""Carry draws of the start density to the target through tempered densities, and average their weights.

    .. math::
        \log w_c = \sum_{t=1}^T (\beta_t - \beta_{t-1}) \log \frac{f_1(u_{c,t-1})}{f_0(u_{c,t-1})}, \qquad
        \log \hat p(x) = \log \frac1C \sum_{c=1}^C w_c, \qquad
        f_\beta = f_0^{1-\beta} f_1^\beta

    :math:`u_{c,0}` is a draw of the start density :math:`f_0`, and :math:`u_{c,t}` comes from :math:`u_{c,t-1}` by a
    transition of Hamiltonian Monte Carlo at :math:`\beta_t`. With any transitions, the mean of a weight is the
    evidence; with good ones the weights vary little. So the estimate is on average a lower bound. With a single
    temperature, this is importance sampling from the start density.

    Source: Neal, Annealed importance sampling (2001), section 2.

    Args:
        chains: the start density, the target, and how the chains go from one to the other.

    Returns:
        Evidence: nats per datum, ``(B,)``. The standard error and the effective number are those of the chains'
        weights. An estimate is doubtful if its error is above 0.5 nats or unknown. Columns: ``"acceptance"``, the mean
        acceptance of the transitions; NaN for a single temperature, which has no transitions.

    Raises:
        InputError: if a setting is impossible.
        Diverged: if the weight of a chain is NaN or plus infinity.

    Example:
        >>> log_start = lambda u: torch.distributions.Normal(0.0, 1.0).log_prob(u).sum(-1)
        >>> log_densities = lambda u: (log_start(u), log_start(u) - 1.5)  # starts at the posterior
        >>> estimate = ais(Chains(lambda num_chains: torch.randn(num_chains, 3, 2), log_densities, Annealing(10, 4)))
        >>> estimate.log_evidence.round(decimals=4)
        tensor([-1.5000, -1.5000, -1.5000], dtype=torch.float64)
    """
    log_weight, acceptance, _ = chains.forward(chains.adapt())
    log_evidence, mcse, ess = mean_of_chains(log_weight)
    doubtful = ~(mcse <= MOST_BELIEVABLE_ERROR)
    return Evidence(log_evidence, mcse, ess, doubtful, "lower", columns={"acceptance": acceptance})


class Annealed(NamedTuple):
    """Chains that have gone along their path."""

    log_weight: Tensor
    """Log weights, ``(C, B)``, in double precision."""
    acceptance: Tensor
    """The mean acceptance of the transitions, ``(B,)``."""
    u: Tensor
    """The last positions, ``(C, B, D)``: with the weights, draws of the density at the end of the path."""


class Chains(NamedTuple):
    """Chains that go through tempered densities, from a start density to a target or back."""

    draw: Draw
    """Function that draws from the start density, the prior or the guide."""
    log_densities: LogDensities
    """Log start, normalised, and log target, log p(x, z) with the log Jacobian of z's transform."""
    settings: Annealing = Annealing()
    first_datum: int = 0
    """Row of the first datum of the batch, for messages."""
    progress: Progress | None = None
    """Function that is called with 1 for every temperature done, :func:`num_steps` times."""
    propose: Propose | None = None
    """Function that computes a transition; by default :func:`~ppl_vae.evidence.hmc.trajectory`."""

    @torch.no_grad()
    def adapt(self) -> Tensor:
        r"""Find step sizes for every temperature and datum, in a pilot run with a quarter of the chains.

        After each transition the step size learns from the acceptance of the pilot's chains, :math:`\bar a`:

        .. math::
            \log \epsilon \leftarrow \log \epsilon + \gamma (\bar a - 0.65)

        The run that follows has new chains and these step sizes. If it learnt them from its own chains, its transitions
        would depend on where its chains had been, and its weights would be biased.

        Returns:
            Tensor: ``(T, B)``; row ``t`` is for the ``t + 1``-st temperature after 0, so that the last is for the
            target.

        Raises:
            InputError: if a setting is impossible.
            Diverged: if a density is NaN at a draw of the start density.

        Example:
            >>> normal = lambda u: torch.distributions.Normal(0.0, torch.tensor([[1.0], [100.0]])).log_prob(u).sum(-1)
            >>> draw = lambda num_chains: torch.randn(num_chains, 2, 1) * torch.tensor([[1.0], [100.0]])
            >>> steps = Chains(draw, lambda u: (normal(u), normal(u)), Annealing(num_temperatures=5)).adapt()
            >>> steps.shape, bool((steps[:, 1] > 10 * steps[:, 0]).all())
            (torch.Size([5, 2]), True)
        """
        _check(self.settings)
        state = self._begin(max(2, self.settings.num_chains // 4))
        log_step = -state.grad_start.square().mean((0, 2)).log() / 2  # of a Gaussian, the standard deviation
        num_moves = math.ceil(MIN_PILOT_MOVES / self.settings.num_temperatures)

        def learn(beta: float, gain: float) -> None:
            nonlocal state, log_step
            state, acceptance = self.move(state, beta, log_step.exp())
            log_step = log_step + gain * (acceptance.mean(0) - TARGET_ACCEPTANCE)

        for n in range(1, WARM_UP_MOVES + 1):
            learn(0.0, n**-0.5)
        steps = []
        for beta in self._temperatures()[1:].tolist():
            for _ in range(num_moves):
                learn(beta, GAIN)
            steps.append(log_step.exp())
            self._report()
        return torch.stack(steps)

    def forward(self, steps: Tensor) -> Annealed:
        """Carry new chains from the start density to the target.

        Args:
            steps: step sizes, ``(T, B)``, found by :meth:`adapt`.

        Raises:
            Diverged: if the weight of a chain is NaN or plus infinity.
        """
        return self.anneal(self._begin(self.settings.num_chains), self._temperatures(), steps[:-1])

    def backward(self, exact: Tensor, steps: Tensor, num_moves: int) -> Annealed:
        """Carry chains back from an exact draw of the target, ``(B, D)``; see :meth:`forward`.

        They first move ``num_moves`` times at the target.
        """
        state = evaluate(self.log_densities, exact.to(steps).expand(self.settings.num_chains, -1, -1))
        refuse_nan(state.log_start - state.log_target, self.first_datum)
        for _ in range(num_moves):
            state, _ = self.move(state, 1.0, steps[-1])
        return self.anneal(state, self._temperatures().flip(0), steps[:-1].flip(0))

    @torch.no_grad()
    def anneal(self, state: ChainState, betas: Tensor, steps: Tensor) -> Annealed:
        r"""Carry chains along a path of temperatures, in either direction, and weigh them.

        .. math::
            \log w = \sum_{t=1}^T (\beta_t - \beta_{t-1}) \log \frac{f_1(u_{t-1})}{f_0(u_{t-1})}, \qquad
            u_t \sim \text{a transition from } u_{t-1} \text{ at } \beta_t, \quad t = 1, \dots, T - 1

        With the temperatures and the step sizes in reverse, it is the same chain backwards, because each transition is
        reversible: a chain that goes :math:`u_0, \dots, u_{T-1}` then goes :math:`u_{T-1}, \dots, u_0`, and its
        weight is :math:`1 / w`.

        Args:
            state: the states in which the chains begin.
            betas: the path, ``(T + 1,)``; the chains begin with the first, and the last has no transition.
            steps: step sizes ``(T - 1, B)`` of the transitions, in the order of the path.

        Raises:
            Diverged: if the weight of a chain is NaN or plus infinity.
        """
        path = betas.tolist()
        log_weight = torch.zeros_like(state.log_start, dtype=torch.double)
        accepted = torch.zeros_like(log_weight[0])
        for n in range(1, len(path)):
            log_weight = log_weight + (path[n] - path[n - 1]) * _log_ratio(state)
            if n < len(path) - 1:
                state, acceptance = self.move(state, path[n], steps[n - 1])
                accepted += acceptance.mean(0)
            self._report()
        refuse_nan(log_weight, self.first_datum)
        return Annealed(log_weight, accepted / (len(path) - 2), state.u)

    def move(self, state: ChainState, beta: float, step_size: Tensor) -> tuple[ChainState, Tensor]:
        """Make one transition of every chain, see :func:`~ppl_vae.evidence.hmc.move`."""
        return move(self.log_densities, state, beta, step_size, self.settings.num_leapfrog, self.propose)

    def _begin(self, num_chains: int) -> ChainState:
        state = evaluate(self.log_densities, self.draw(num_chains))
        refuse_nan(_log_ratio(state), self.first_datum)
        return state

    def _temperatures(self) -> Tensor:
        return temperatures(self.settings.num_temperatures, self.settings.schedule)

    def _report(self) -> None:
        if self.progress is not None:
            self.progress(1)


def mean_of_chains(log_weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return :func:`~ppl_vae.evidence.estimate.log_mean` of log weights ``(C, B)``."""
    return log_mean(log_weight.logsumexp(0), (2 * log_weight).logsumexp(0), len(log_weight))


def _log_ratio(state: ChainState) -> Tensor:
    return state.log_target.double() - state.log_start.double()


def _check(settings: Annealing) -> None:
    for name in ("num_temperatures", "num_chains", "num_leapfrog"):
        value = getattr(settings, name)
        if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < 1:
            raise InputError(f"--{name.replace('_', '-')} is {value!r}: expected a whole number, 1 or more")
    if settings.schedule not in get_args(TemperatureSchedule):
        known = nearest(str(settings.schedule), get_args(TemperatureSchedule))
        raise InputError(f"--schedule {settings.schedule!r} is unknown; {known}")
