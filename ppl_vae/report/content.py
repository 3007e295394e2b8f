"""What a report says: gathered from the files of a run folder, with a sentence for each part that is missing."""

from __future__ import annotations

import base64
import dataclasses
import inspect
import io
import json
import shlex
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ppl_vae.errors import InputError, reason
from ppl_vae.estimator import Description, GapSettings, Settings, VariationalInference, describe, evaluation_of, load
from ppl_vae.plots import elbo_over_epochs
from ppl_vae.report.tables import (
    MISSING,
    at_the_end_of_fit,
    dimensions,
    estimates,
    gaps,
    modules,
    sentences,
    shown,
    sites,
    training,
)
from ppl_vae.runs import Run

DPI = 150
"""Of the figures in a run folder."""
USES = {
    "generate": "draws from the prior predictive",
    "reconstruct": "data beside draws from their posterior predictive",
    "interpolate": "ways between two data",
    "traverse": "one latent dimension at a time",
    "manifold": "the grid over two latent dimensions",
    "latents": "the latent space",
    "embed": "posterior means and standard deviations in a file",
    "impute": "missing entries filled in",
    "augment": "new data near given ones",
    "outliers": "data ordered by their evidence",
}
"""Verbs that use a fitted program, and what each makes."""
OF_LATENTS = ("interpolate", "traverse", "manifold", "latents", "embed")
"""Those that need latents."""
SUPERSEDED = {"latents": "latent_space", "aggregated": "latent_aggregated"}
"""Figures that ``fit`` and ``evaluate`` draw, and those of the verb ``latents`` that show the same and more."""

FIGURES: dict[str, tuple[str, str, str]] = {
    "elbo": ("training", "The ELBO over the fit", "Training and validation bound of each epoch; higher is better."),
    "bound": (
        "quality",
        "The bound over the number of draws",
        "How the estimate rises towards the log evidence as more draws are averaged; where it is still rising, it is "
        "too low.",
    ),
    "pareto_k": (
        "quality",
        "Pareto k of the importance weights",
        "Data to the right of the line have weights with so heavy a tail that their estimate is not to be believed.",
    ),
    "sandwich": (
        "quality",
        "Bidirectional Monte Carlo",
        "Bounds from below and from above for data that were simulated from the model.",
    ),
    "worst": ("quality", "The data that are explained worst", "Those with the lowest log evidence, and their means."),
    "gap": ("gap", "The gaps of inference", "What amortization and the posterior's family cost, datum by datum."),
    "latents": ("latents", "The latent space", "Posterior means, coloured by label where there are labels."),
    "latent_space": (
        "latents",
        "Data in the latent space",
        "Posterior means, coloured by label where there are labels.",
    ),
    "latent_posteriors": ("latents", "Posteriors of some data", "The posterior of each dimension beside the prior."),
    "latent_aggregated": (
        "latents",
        "The aggregated posterior",
        "One draw for each datum, beside draws from the prior; the largest KL first.",
    ),
    "divergence": (
        "latents",
        "Divergence of each latent dimension",
        "The KL divergence of the posterior from the prior; a dimension near zero is not used.",
    ),
    "aggregated": (
        "latents",
        "Aggregated posterior beside the prior",
        "Where they differ, draws from the prior land where the decoder has seen few data.",
    ),
    "reconstructions": ("samples", "Reconstructions", "Test data and their posterior-predictive means."),
    "prior": ("samples", "Draws from the prior predictive", "Means of new data, given latents from the prior."),
    "generate": ("samples", "Generated data", "Draws from the prior predictive."),
    "reconstruct": ("samples", "Reconstructions by several draws", "Data, their means and several posterior draws."),
    "interpolate": ("uses", "Interpolation", "Means on the way between two data."),
    "traverse": ("uses", "Traversals", "One latent dimension at a time, those that tell most first."),
    "manifold": ("uses", "The manifold", "Means over a grid of the latents, spaced as the prior is."),
    "impute": ("uses", "Missing entries filled in", "What was seen, and draws and means of what was missing."),
    "augment": ("uses", "Augmented data", "Data, and new ones drawn from their posteriors."),
    "outliers": ("uses", "Outliers", "The data with the lowest log evidence."),
}
"""By the start of a file's name: the section, the title and the caption."""


class Picture(NamedTuple):
    """A figure, inlined."""

    section: str
    title: str
    caption: str
    file: str
    """Where it is in the run folder; empty where it was drawn for the report."""
    src: str
    """A data URI."""
    width: int | None
    """In CSS pixels, as large as the figure is; None where the picture knows."""


def gather(run: Run) -> dict[str, Any]:
    """What the template is given.

    Raises:
        InputError: a file of the run is damaged.
    """
    config, metrics = run.config(), run.metrics()
    where = shlex.quote(str(run.path))
    summary, evidence, gap = (_read(run, name) for name in ("summary.json", "evidence.json", "gap.json"))
    program, no_program = _program(run)
    pictures = find_pictures(run.path / "figures")
    if metrics and not any(each.section == "training" for each in pictures):
        pictures.insert(0, _course(metrics))
    model = config.get("model", {})
    content = {
        "model": program.name if program else str(model.get("class_path", "")),
        "data": Path(str(config.get("data", ""))).name,
        "run": str(run.path),
        "where": where,
        "config": yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        "changed": _changed(config),
        "class_path": str(model.get("class_path", "")),
        "program": program,
        "no_program": no_program,
        "graph": None if program is None or program.graph is None else _uri(program.graph.encode(), "svg+xml"),
        "summary": summary,
        "versions": (summary or {}).get("versions", {}),
        "data_gone": _data_gone(config),
        "metrics": metrics,
        "training": training(metrics, summary),
        "tables": {} if program is None else {"sites": sites(program), "modules": modules(program)},
        "pictures": pictures,
        "uses": {verb: what for verb, what in USES.items() if _fits(verb, program) and not _done(run.path, verb)},
        "arrays": [f"uses/{path.name}" for path in sorted((run.path / "uses").glob("[!.]*"))],
        "commands": _commands(config, evidence, gap, where),
        "evaluated": None,
        "gaps": None,
        "fitted": None,
        "dash": MISSING,
    }
    parts: list[tuple[str, str, Mapping[str, Any] | None, Callable[[Any], Any]]] = [
        ("fitted", "summary.json", summary, at_the_end_of_fit),
        ("evaluated", "evidence.json", evidence, lambda numbers: _evaluated(numbers, program)),
        ("gaps", "gap.json", gap, lambda numbers: {"table": gaps(numbers), "warnings": numbers["warnings"]}),
    ]
    for name, file, numbers, made in parts:
        if numbers is not None:
            try:
                content[name] = made(numbers)
            except (InputError, KeyError, TypeError, AttributeError, ValueError) as error:
                raise _damaged(run, file, error) from error
    content["headline"] = _headline(content)
    return content


def find_pictures(folder: Path) -> list[Picture]:
    """The figures of a run, inlined: each as PNG, or as SVG where there is no PNG; in the order of ``FIGURES``."""
    files: dict[str, Path] = {}
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        if path.suffix in (".png", ".svg") and not path.name.startswith("."):
            files.setdefault(path.stem, path)  # .png stands before .svg
    found = []
    for older, newer in SUPERSEDED.items():
        if newer in files:
            files.pop(older, None)
    for stem, path in files.items():
        known = [name for name in FIGURES if stem == name or stem.startswith((f"{name}_", f"{name}-", f"{name}."))]
        key = max(known, key=len, default=None)
        section, title, caption = FIGURES[key] if key else ("uses", stem.replace("_", " ").replace("-", " "), "")
        if key and stem != key:
            title = f"{title}: {stem[len(key) + 1 :].replace('_', ' ')}"
        content, svg = path.read_bytes(), path.suffix == ".svg"
        width = None if svg or len(content) < 24 else round(struct.unpack(">I", content[16:20])[0] * 96 / DPI)
        picture = Picture(section, title, caption, path.name, _uri(content, "svg+xml" if svg else "png"), width)
        found.append((list(FIGURES).index(key) if key else len(FIGURES), stem, picture))
    return [picture for *_, picture in sorted(found, key=lambda each: each[:2])]


def fit_command(config: Mapping[str, Any]) -> str:
    """The command that makes a run of this configuration, with the options that are not the defaults."""
    model = config.get("model", {})
    options = {"data": config.get("data"), "model": model.get("class_path")}
    options |= {f"model.{name}": value for name, value in model.get("init_args", {}).items()}
    tokens = [f"--{name.replace('_', '-') if '.' not in name else name}" for name in (options | _changed(config))]
    values = [value if isinstance(value, str) else json.dumps(value) for value in (options | _changed(config)).values()]
    return _command("fit", "", dict(zip(tokens, values, strict=True)))


def _commands(
    config: Mapping[str, Any], evidence: Mapping[str, Any] | None, gap: Mapping[str, Any] | None, where: str
) -> list[str]:
    """What repeats the run and each estimate of it."""
    commands = [fit_command(config)]
    if evidence is not None:
        names = [name for name in evidence.get("estimators", {}) if name != "elbo"]
        options = {"--estimators": ",".join(names)} | _estimate_options(evidence, Settings())
        commands.append(_command("evaluate", where, options))
    if gap is not None:
        commands.append(_command("gap", where, _estimate_options(gap, GapSettings())))
    return [*commands, f"python -m ppl_vae.report {where}"]


def _estimate_options(written: Mapping[str, Any], defaults: Any) -> dict[str, str]:
    """Options of an estimate that was written, where they are not the defaults."""
    settings, usual = written.get("settings", {}), dataclasses.asdict(defaults)
    options = {"--part": str(written.get("part"))} if written.get("part", "test") != "test" else {}
    options["--num-data"] = str(written.get("num_data"))
    for name, value in settings.items():
        if value != usual.get(name):
            options[f"--{name.replace('_', '-')}"] = value if isinstance(value, str) else json.dumps(value)
    return options


def _command(verb: str, where: str, options: Mapping[str, str]) -> str:
    given = [token for name, value in options.items() for token in (name, shlex.quote(value))]
    return " ".join(part for part in (f"python -m ppl_vae.{verb}", where, *given) if part)


def _changed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a run that are not the defaults, but for its data and its model."""
    usual = {name: p.default for name, p in inspect.signature(VariationalInference.__init__).parameters.items()}
    usual |= dict.fromkeys(("data_root", "binarize", "image_shape"))
    return {
        name: value
        for name, value in config.items()
        if name not in ("data", "model") and (name not in usual or value != usual[name])
    }


def _program(run: Run) -> tuple[Description | None, str]:
    """What the program is, and where it cannot be told, why."""
    try:
        return describe(load(run.path, accelerator="cpu", compile="off")), ""
    except Exception as error:  # a program of the user's may raise anything
        return None, str(error) if isinstance(error, InputError) else reason(error)


def _data_gone(config: Mapping[str, Any]) -> str:
    """The file of the data, where it was there for the fit and is not any more; otherwise empty."""
    for name in ("data", "data_root"):
        value = config.get(name)
        if isinstance(value, str) and Path(value).is_absolute() and not Path(value).exists():
            return value
    return ""


def _evaluated(numbers: Mapping[str, Any], program: Description | None) -> dict[str, Any]:
    evaluation = evaluation_of(numbers)._replace(generates=program is None or program.generates)
    used = numbers.get("diagnostics")
    return {
        "table": estimates(evaluation, numbers["part"]),
        "sentences": sentences(evaluation),
        "warnings": numbers["warnings"],
        "dimensions": None if used is None else dimensions(used),
        "evaluation": evaluation,
        "part": numbers["part"],
    }


def _headline(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The few numbers that are asked for first: what, and how much."""
    lines, program = [], content["program"]
    what = "log evidence" if program is None or program.generates else "reconstruction term"
    if (found := content["evaluated"]) is not None:
        evaluation = found["evaluation"]
        rows = {name: row for name, row in evaluation.rows.items() if name in ("exact", "ais", "iwae", "prior")}
        finite = {name: row for name, row in rows.items() if shown(row.log_evidence) != MISSING}
        if finite:
            best = "exact" if "exact" in finite else max(finite, key=lambda name: finite[name].log_evidence)
            row = finite[best]
            lines.append(
                (
                    f"{what}, nats per datum ({evaluation.label(best)}; {found['part']})",
                    f"{shown(row.log_evidence, '.2f')} ± {shown(row.se, '.2f')}",
                )
            )
            bits = evaluation.bits_per_dimension(row.log_evidence)
            lines.append(("bits per dimension", shown(bits, ".4f")))
    elif content["fitted"] is not None:
        label, mean, _, se = content["fitted"].rows[-1]
        lines.append((f"{what}, nats per datum ({label}; test)", f"{mean} ± {se}"))
    if (summary := content["summary"]) is not None:
        lines.append(("epochs", shown(summary.get("epochs"))))
        lines.append(("seconds of training", shown(summary.get("train_seconds"), ".1f")))
    if program is not None:
        lines.append(("parameters", f"{sum(row.num_parameters for row in program.modules):,}"))
    return lines


def _course(metrics: list[dict[str, Any]]) -> Picture:
    """The ELBO over the epochs of a run that was stopped before it drew it."""
    _, title, caption = FIGURES["elbo"]
    file = io.BytesIO()
    figure = elbo_over_epochs(metrics)
    figure.savefig(file, dpi=DPI, format="png", metadata={"Software": None})
    width = round(float(figure.get_size_inches()[0]) * 96)
    return Picture("training", title, caption, "", _uri(file.getvalue(), "png"), width)


def _fits(verb: str, program: Description | None) -> bool:
    """Whether a use is one for this program; any is where it cannot be told."""
    if program is None:
        return True
    latents = any(row.role in ("latent", "summed out") for row in program.sites)
    return (latents or verb not in OF_LATENTS) and (program.generates or verb not in ("generate", "manifold", "impute"))


def _done(folder: Path, verb: str) -> bool:
    """Whether a use has left something in the folder besides what ``fit`` itself leaves."""
    own = {"latents.png"}
    places = (folder, folder / "figures", folder / "uses")
    return any(
        path.stem == verb or path.stem.startswith((f"{verb}_", f"{verb}-", f"{verb}."))
        for place in places
        for path in place.glob(f"{verb}*")
        if path.name not in own
    )


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _read(run: Run, name: str) -> dict[str, Any] | None:
    """A file of a run; None where it is not there."""
    path = run.path / name
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise _damaged(run, name, error) from error
    if not isinstance(content, dict):
        raise _damaged(run, name, TypeError("no mapping"))
    return content


def _damaged(run: Run, name: str, error: Exception) -> InputError:
    verb = {"evidence.json": "evaluate", "gap.json": "gap"}.get(name, "fit")
    return InputError(f"{run.path / name} is damaged ({reason(error)}): remove it, or write it anew with {verb}")
