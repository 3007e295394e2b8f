"""The pages of the models, written from their docstrings and from ``models/numbers`` before the site is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ppl_vae.runs import known_models, program_class

HERE = Path(__file__).parents[1] / "models"
EXTRA = {  # what a page says beside its docstring: the pages where the model is used
    "mixture": "tutorials/heights-to-handwriting",
    "normal": "tutorials/heights-to-handwriting",
    "factor_analysis": "tutorials/prior-estimate",
    "vae": "tutorials/heights-to-handwriting",
    "cvae": "tutorials/conditional-generation",
    "autoencoder": "tutorials/latent-spaces",
    "hmm": "tutorials/sequences",
    "deep_markov_model": "tutorials/sequences",
    "count_vae": "tutorials/cells",
    "table_vae": "tutorials/table-with-holes",
}


def page(name: str) -> str:
    """Return the page of a model: its docstring, its picture, its number and the command that made both."""
    lines = [f"# `{name}`", "", "```{eval-rst}", f".. autoclass:: ppl_vae.models.{name}.{program_class(name).__name__}"]
    lines += ["   :no-members:", "```", ""]
    numbers = HERE / "numbers" / f"{name}.json"
    if numbers.exists():
        entry = json.loads(numbers.read_text())
        lines += ["## A fit", "", entry["text"], "", f"![{entry['caption']}](../pictures/{name}.png)", ""]
        lines += ["```text", entry["table"], "```", "", "```console", f"$ {entry['command']}", "```", ""]
    else:
        lines += ["No fit of this model has been measured yet. This command of the repository does it:", ""]
        lines += ["```console", f"$ python benchmarks/gallery.py --only {name}", "```", ""]
    if name in EXTRA:
        lines += [f"See also {{doc}}`the tutorial </{EXTRA[name]}>`.", ""]
    return "\n".join(lines)


def write_pages(app: Any) -> None:
    """Write a page for every model, and leave alone those that have not changed."""
    folder = HERE / "pages"
    folder.mkdir(exist_ok=True)
    for name in known_models():
        text, path = page(name), folder / f"{name}.md"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def setup(app: Any) -> dict[str, bool]:
    """Write the pages before Sphinx looks for files."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
