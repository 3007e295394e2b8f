"""Data with missing numbers: their likelihood is masked out inside the program's own observation sites."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.observed_parts import read_parts
from ppl_vae.program.partly_observed import PartlyObserved
from ppl_vae.program.traces import Structure, is_deterministic


def with_missing(
    program: BoundProgram, masked: Sequence[int] | None = None, *, masks_given: bool = False
) -> BoundProgram:
    r"""Return the program of data that are partly seen.

    .. math:: \log p(x_{\mathrm{seen}}, z) - \log q(z \mid \tilde x, m)

    Behind the arguments of the model, a batch has a mask for each array that may have holes: true for a number that is
    seen. Densities are computed from the seen numbers. Model and guide take the values that stand in place of the
    missing numbers. Parameters and store are shared with ``program``.

    Args:
        program: the program, bound to data without missing numbers.
        masked: the positions in a batch of the arrays that may have holes; by default those of all real numbers.
        masks_given: if True, the batches of ``program`` have the masks already, see ``Program.bind``.

    Raises:
        InputError: the model fails on missing numbers.

    Example:
        >>> from ppl_vae.models.factor_analysis import FactorAnalysis
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(3, 4)
        >>> seen = torch.tensor([True, True, False, False]).expand(3, 4)
        >>> half = with_missing(Program(FactorAnalysis(data_dim=4, latent_dim=2)).bind((x,)))
        >>> half.log_weights((x, seen), 5).shape, half.posterior((x, seen)).data["x"][0]
        (torch.Size([5, 3]), tensor([0., 0., nan, nan]))
    """
    if masked is None:
        masked = [i for i, tensor in enumerate(program.template) if tensor.is_floating_point()]
    structure, closed_form, template = program.structure, program.closed_form, program.template
    width = len(template) - len(masked) if masks_given else len(template)
    if not masks_given:
        program = program.derive(
            model=_of_arguments(program.model, width),
            guide=None if program.guide is None else _of_arguments(program.guide, width),
            template=(*template, *(torch.ones_like(template[i], dtype=torch.bool) for i in masked)),
            structure=structure,
        )
        closed_form = None
    parts, model = read_parts(program, masked), program.model

    def partly(*rows: Tensor) -> Any:
        with _Missing(structure, parts.seen(rows[width : width + len(masked)])):
            return model(*rows)

    return program.derive(model=partly, closed_form=closed_form, structure=structure, parts=parts)


def without_missing(program: BoundProgram) -> BoundProgram:
    """Return the program whose predictions are of all numbers, as if none had been seen; batches stay the same."""
    if program.parts is None:
        return program
    model = program.model

    def whole(*rows: Tensor) -> Any:
        with _Whole():
            return model(*rows)

    return program.derive(model=whole, structure=program.structure, parts=None)


class _Missing(Messenger):
    """A handler that gives observed sites the density of their seen numbers; ``poutine.uncondition`` draws the rest.

    Args:
        structure: the structure of the program.
        seen: True for the numbers that are seen, ``(B, ...)`` by observed site.
    """

    def __init__(self, structure: Structure, seen: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.structure, self.seen = structure, seen

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.seen and msg["is_observed"] and not is_deterministic(msg):
            seen = self.structure.from_front(msg, self.seen[msg["name"]][None], 1)
            while seen.dim() > msg["value"].dim() and len(seen) == 1:
                seen = seen[0]
            msg["fn"] = PartlyObserved(msg["fn"], msg["value"], seen)
            msg["infer"]["_seen"] = seen


class _Whole(Messenger):
    """A handler that gives sites whose numbers are partly seen the distribution of all numbers again."""

    def _pyro_sample(self, msg: Any) -> None:
        if isinstance(msg["fn"], PartlyObserved):
            msg["fn"] = msg["fn"].base


def _of_arguments(function: Callable[..., Any], width: int) -> Callable[..., Any]:
    """Return a function of batches that have masks behind its arguments."""
    return lambda *rows: function(*rows[:width])
