"""The description of a use, which the report and the tests read; the command line takes its sentence from the file."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Literal, NamedTuple, TypeVar

Need = Literal["latents", "generation"]
Function = TypeVar("Function", bound=Callable[..., Any])


class Caption(NamedTuple):
    """The place and the text of a figure in a report."""

    section: Literal["samples", "latents", "uses"]
    title: str
    text: str


class Use(NamedTuple):
    """A use of a fitted program."""

    function: Callable[..., Any]
    needs: frozenset[Need]
    """Requirements of a program: latents, or generation, which a program that computes with its data lacks."""
    figures: dict[str, Caption]
    """Captions by the start of the name of a figure's file."""

    @property
    def name(self) -> str:
        """The name of the function and of the verb."""
        return self.function.__name__

    @property
    def sentence(self) -> str:
        """The first line of the function's docstring, which the command line shows too."""
        return (self.function.__doc__ or "").partition("\n")[0]

    def fits(self, has: Collection[Need]) -> bool:
        """Return true if a program that has these meets the requirements."""
        return self.needs <= set(has)


USES: dict[str, Use] = {}
"""The uses by name, as ``describe_use`` has registered them."""


def describe_use(*needs: Need, **figures: Caption) -> Callable[[Function], Function]:
    """Register a function as a use, and return it as it is.

    Args:
        needs: what a program must have, see ``Use``.
        figures: captions of the figures of its verb, see ``Use``.
    """

    def register(function: Function) -> Function:
        USES[function.__name__] = Use(function, frozenset(needs), figures)
        return function

    return register
