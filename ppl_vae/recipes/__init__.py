"""Recipes: options of fits that repeat published results, one YAML file each. ``fit --config NAME`` takes the name.

A recipe is a configuration file. Its comments state whose model it is, and what was chosen how. The data are no part
of it: ``data`` names a file of the working folder, and ``--data`` another place. ``benchmarks/quality.py`` trains and
measures the recipes, and writes ``docs/quality.md``.
"""

from __future__ import annotations

from pathlib import Path

from ppl_vae.errors import InputError, nearest

FOLDER = Path(__file__).parent


def known_recipes() -> list[str]:
    """Return the names of all recipes, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find_configuration(given: str) -> Path:
    """Return the path of a configuration file: a file, or the recipe of this name if there is no such file.

    Raises:
        InputError: there is neither a file nor a recipe.

    Example:
        >>> find_configuration("static-mnist-vae").name
        'static-mnist-vae.yaml'
        >>> find_configuration("static-mnist-va")
        Traceback (most recent call last):
        ppl_vae.errors.InputError: no file static-mnist-va, and no recipe of that name; did you mean 'static-mnist-...
    """
    path = Path(given)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path
    if given not in known_recipes():
        raise InputError(f"no file {given}, and no recipe of that name; {nearest(given, known_recipes())}")
    return FOLDER / f"{given}.yaml"
