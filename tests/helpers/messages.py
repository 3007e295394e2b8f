"""Messages of refused input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ppl_vae.errors import InputError


def refusal(call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """Return the message of the ``InputError`` that a call raises: one short line that names the given files."""
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    paths = [argument for argument in arguments if isinstance(argument, Path)]
    assert len(message) < 200 + sum(len(str(path)) for path in paths)
    assert all(path.name in message for path in paths)
    return message
