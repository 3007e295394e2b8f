"""Lists in the text of an option."""

from __future__ import annotations


def split_list(text: str | None) -> list[str]:
    """Return the items of a list with commas, without the blanks around them; none for None.

    Example:
        >>> split_list("training, weights,"), split_list(None)
        (['training', 'weights'], [])
    """
    return [item.strip() for item in (text or "").split(",") if item.strip()]
