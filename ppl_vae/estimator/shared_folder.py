"""A folder that a model hub takes: parameters by plain names, the fit, its configuration and a model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from safetensors.torch import save

from ppl_vae.errors import InputError
from ppl_vae.estimator.single_file import write_fit
from ppl_vae.runs.files import write_whole

if TYPE_CHECKING:
    from ppl_vae.estimator.variational_inference import VariationalInference
    from ppl_vae.evaluation.evaluation import Evaluation

FIT = "fit.safetensors"
"""The file of a shared folder that ``load`` reads."""


def write_shared(vi: VariationalInference, folder: str | Path, evaluation: Evaluation | None = None) -> None:
    """Write a folder for a model hub, see ``VariationalInference.share``."""
    path = Path(folder).expanduser()
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file: name a folder")
    path.mkdir(parents=True, exist_ok=True)
    state = vi.program_.state()
    tensors = {name.partition(".")[2]: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    if len(tensors) < len(state):  # a pyro.param that is named as a parameter of a module is
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_whole(path / "model.safetensors", save({name: tensor.clone() for name, tensor in tensors.items()}))
    write_fit(vi, path / FIT)
    shapes = {name: list(rows.shape[1:]) for name, rows in vi.template.items()}
    options = {name: value for name, value in vi.get_params(deep=False).items() if name != "program"}
    config = {"library_name": "ppl_vae", "program": vi.program_.name, "shapes": shapes, "options": options}
    write_whole(path / "config.json", json.dumps(config, indent=2, default=str) + "\n")
    if not (path / "README.md").exists():  # what the author has written stays
        write_whole(path / "README.md", _card(vi, shapes, evaluation))


def _card(vi: VariationalInference, shapes: dict[str, list[int]], evaluation: Evaluation | None) -> str:
    """Return a model card with YAML in front."""
    name, structure = vi.program_.name, vi.program_.structure
    front: dict[str, Any] = {"library_name": "ppl_vae", "tags": ["variational-inference", "pyro", "ppl_vae"]}
    number = sum(tensor.numel() for tensor in vi.program_.parameters().values())
    lines = [
        *("---", yaml.safe_dump(front, sort_keys=False).rstrip(), "# license: the author's choice", "---", ""),
        f"# {name}",
        "",
        f"A probabilistic program with latent variables, {name}, fitted by variational inference ({vi.guide}).",
        "",
        f"- parameters: {number:,}",
        *(
            f"- a datum of `{key}`: {'a number' if not shape else f'shape {tuple(shape)}'}"
            for key, shape in shapes.items()
        ),
        f"- latents: {', '.join(structure.latents) or 'none'}",
        f"- observed: {', '.join(structure.observed)}",
        "",
        "## Evaluation",
        "",
        f"```\n{evaluation}\n```" if evaluation is not None else "No evaluation is given.",
        "",
        "## How to load it",
        "",
        "```python",
        "from ppl_vae import load",
        "",
        'vi = load("this folder")'
        if vi.origin.recipe is not None
        else f'vi = load("this folder", program={name}(...))',
        "```",
        "",
        f"`model.safetensors` has the parameters by plain names, `{FIT}` all that `load` needs: no pickle, no code.",
        "",
    ]
    return "\n".join(lines)
