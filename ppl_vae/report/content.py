"""The content of a report, gathered from the files of a run folder, with a sentence for each part that is missing."""

from __future__ import annotations

import dataclasses
import inspect
import json
import shlex
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ppl_vae.errors import ChangedSinceFit, InputError, reason
from ppl_vae.estimator import Description, VariationalInference, describe, load
from ppl_vae.evaluation.estimators import OF_DRAWS, Settings, bounds_first
from ppl_vae.evaluation.evaluation import evidence_notes, evidence_table
from ppl_vae.evaluation.gap import gap_table
from ppl_vae.evaluation.measure_gap import GapSettings
from ppl_vae.plots import number
from ppl_vae.report.figures import belongs_to, collect_figures, inline_graph
from ppl_vae.report.tables import BY_FIT, MISSING, at_the_end_of_fit, dimensions, modules, shown, sites, training
from ppl_vae.report.verdict import judge_run
from ppl_vae.runs import Run
from ppl_vae.runs.folder import FILE_OPTIONS, NUM_DATA
from ppl_vae.uses.description import USES, Need, Use

BY_EVALUATE = "By evaluate: "
MINUS = "\N{MINUS SIGN}"


def gather(run: Run, *, trust: bool = False) -> dict[str, Any]:
    """Return what the template needs.

    Raises:
        InputError: a file of the run is damaged.
    """
    config, metrics = run.config(), run.metrics()
    folder = shlex.quote(str(run.path))
    summary, evidence, gap = (run.read_json(name) for name in ("summary.json", "evidence.json", "gap.json"))
    checks, (program, no_program) = run.read_json("check.json"), _program(run, trust)
    class_path = str(config.get("model", {}).get("class_path", ""))

    def tabulate(file: str, numbers: Any, make: Callable[[Any], Any]) -> Any:
        """Return what is made of the numbers of a file, or None if there is no file."""
        try:
            return None if numbers is None else make(numbers)
        except (InputError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise _damaged(run, file, error) from error

    content = {
        "model": program.name if program else class_path,
        "data": Path(str(config.get("data", ""))).name,
        "run": str(run.path),
        "folder": folder,
        "config": yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        "changed": _changed(config),
        "class_path": class_path,
        "program": program,
        "no_program": no_program,
        "graph": None if program is None or program.graph is None else inline_graph(program.graph),
        "summary": summary,
        "versions": (summary or {}).get("versions", {}),
        "data_gone": _data_gone(config),
        "metrics": metrics,
        "training": training(metrics, summary),
        "tables": {} if program is None else {"sites": sites(program), "modules": modules(program)},
        "figures": collect_figures(run.path / "figures", metrics, (checks or {}).get("figures", {})),
        "uses": [use for use in USES.values() if use.fits(_offers(program)) and not _is_done(run.path, use)],
        "arrays": [f"uses/{path.name}" for path in sorted((run.path / "uses").glob("[!.]*"))],
        "commands": _commands(config, evidence, gap, folder),
        "fitted": tabulate("summary.json", summary, at_the_end_of_fit),
        "evaluated": tabulate("evidence.json", evidence, partial(_evaluated, program=program)),
        "gaps": tabulate("gap.json", gap, lambda n: {"table": gap_table(n, n["part"]), "warnings": n["warnings"]}),
        "checked": tabulate("check.json", checks, _checked),
        "dash": MISSING,
    }
    verdict = judge_run(folder, ended=summary is not None, **{part: content[part] for part in ("evaluated", "checked")})
    return content | {"verdict": verdict, "headline": _headline(content)}


def fit_command(config: Mapping[str, Any]) -> str:
    """Return the command that makes a run of this configuration, with the options that are not the defaults."""
    model = config.get("model", {})
    options = {"data": config.get("data"), "model": model.get("class_path")}
    options |= {f"model.{name}": value for name, value in model.get("init_args", {}).items()}
    return _command("fit", "", options | _changed(config))


def _commands(
    config: Mapping[str, Any], evidence: Mapping[str, Any] | None, gap: Mapping[str, Any] | None, folder: str
) -> list[str]:
    """Return the commands that repeat the run and each estimate of it."""
    commands = [fit_command(config)]
    if evidence is not None:
        names = [name for name in evidence.get("estimators", {}) if name not in OF_DRAWS]
        options = {"estimators": ",".join(names)} | _estimate_options(evidence, Settings())
        commands.append(_command("evaluate", folder, options))
    if gap is not None:
        commands.append(_command("gap", folder, _estimate_options(gap, GapSettings())))
    return [*commands, f"python -m ppl_vae report {folder}"]


def _estimate_options(written: Mapping[str, Any], defaults: Any) -> dict[str, Any]:
    """Return the options of an estimate that was written, if they are not the defaults."""
    part, usual = written.get("part", "test"), dataclasses.asdict(defaults)
    options = {"part": part} if part != "test" else {}
    settings = {name: value for name, value in written.get("settings", {}).items() if value != usual.get(name)}
    return options | {"num_data": written.get("num_data")} | settings


def _command(verb: str, folder: str, options: Mapping[str, Any]) -> str:
    """Return a command; the names of options of a model, which have a dot, keep their underscores."""
    tokens = [f"python -m ppl_vae {verb}", folder]
    for name, value in options.items():
        tokens.append(f"--{name if '.' in name else name.replace('_', '-')}")
        tokens.append(shlex.quote(value if isinstance(value, str) else json.dumps(value)))
    return " ".join(token for token in tokens if token)


def _changed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a run that are not the defaults, but for its data and its model."""
    usual = {name: p.default for name, p in inspect.signature(VariationalInference.__init__).parameters.items()}
    usual |= {"num_data": NUM_DATA} | dict.fromkeys(
        ("logger", "start_from", "data_root", "binarize", "image_shape", "grey", *FILE_OPTIONS)
    )
    return {
        name: value
        for name, value in config.items()
        if name not in ("data", "model", "arguments") and (name not in usual or value != usual[name])
    }


def _program(run: Run, trust: bool) -> tuple[Description | None, str]:
    """Return what the program is, or the reason why it cannot be shown."""
    try:
        with warnings.catch_warnings():  # a change since the fit is reported where numbers are computed
            warnings.simplefilter("ignore", ChangedSinceFit)
            return describe(load(run.path, accelerator="cpu", compile="off", trust=trust)), ""
    except Exception as error:  # a user's program may raise anything
        return None, str(error) if isinstance(error, InputError) else reason(error)


def _data_gone(config: Mapping[str, Any]) -> str:
    """Return the file of the data if it no longer exists, else an empty text."""
    paths = (config.get(name) for name in ("data", "data_root"))
    gone = (path for path in paths if isinstance(path, str) and Path(path).is_absolute() and not Path(path).exists())
    return next(gone, "")


def _evaluated(numbers: Mapping[str, Any], program: Description | None) -> dict[str, Any]:
    table, used = evidence_table(numbers, numbers["part"]), numbers.get("diagnostics")
    notes = evidence_notes(numbers, generates=program is None or program.generates)
    return {
        "table": table._replace(caption=f"{BY_EVALUATE}{table.caption}"),
        "sentences": [line.replace(" nan", f" {MISSING}") for line in notes],
        "warnings": numbers["warnings"],
        "dimensions": None if used is None else dimensions(used),
    }


def _checked(numbers: Mapping[str, Any]) -> dict[str, Any]:
    from ppl_vae.check.page import page_of  # with scipy.stats, which takes a second to import

    page = page_of(numbers)
    failures = [f"{name}, {verdict.subject}: {verdict.meaning} {verdict.remedy}" for name, verdict in page.failures]
    unknown = [f"{name}, {verdict.subject}: {verdict.meaning}" for name, verdict in page.unknown]
    every = [verdict for verdicts in page.verdicts.values() for verdict in verdicts]
    counts = {status: sum(verdict.status == status for verdict in every) for status in ("holds", "fails", "not judged")}
    names = [f"{name} ({verdict.subject})" for name, verdict in page.failures]
    return {"table": page.table(), "failures": failures, "unknown": unknown, "counts": counts, "names": names}


def _headline(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the most important numbers, each as its name and a text."""
    lines: list[tuple[str, str]] = []
    program, evaluated, summary = content["program"], content["evaluated"], content["summary"]
    what = "log evidence" if program is None or program.generates else "reconstruction term"
    if evaluated is not None:
        table = evaluated["table"]
        rows = {name: table.rows[name] for name in bounds_first(table.rows)}
        finite = {name: row for name, row in rows.items() if shown(row["log_evidence"]) != MISSING}
        if finite:
            best = "exact" if "exact" in finite else max(finite, key=lambda name: finite[name]["log_evidence"])
            row, label = finite[best], table.texts[best]["label"]
            value = f"{number(row['log_evidence'], '.2f')} ± {shown(row['se'], '.2f')}"
            lines.append((f"{what}, nats per datum ({label}; {table.caption.removeprefix(BY_EVALUATE)})", value))
            if "bits_per_dimension" in row:
                bits = shown(row["bits_per_dimension"], ".4f").replace("-", MINUS)
                lines.append(("bits per dimension of the same data", bits))
    elif content["fitted"] is not None:
        label, mean, _, se = content["fitted"].cells(MISSING)[-1]
        value = f"{mean.replace('-', MINUS)} ± {se}"
        lines.append((f"{what}, nats per datum ({label}; {content['fitted'].caption.removeprefix(BY_FIT)})", value))
    if summary is not None:
        lines.append(("epochs of training", shown(summary.get("epochs"))))
        lines.append(("seconds of training", shown(summary.get("train_seconds"), ".1f")))
    if program is not None:
        lines.append(("parameters", f"{sum(row.num_parameters for row in program.modules):,}"))
    return lines


def _offers(program: Description | None) -> set[Need]:
    """Return what a use may need and the program has; everything if the program is not known."""
    has_latents = program is None or any(row.role in ("latent", "summed out") for row in program.sites)
    offers: dict[Need, bool] = {"latents": has_latents, "generation": program is None or program.generates}
    return {need for need, is_offered in offers.items() if is_offered}


def _is_done(folder: Path, use: Use) -> bool:
    """Return true if a use has left a file in the folder, beside the figures of ``fit`` and ``evaluate``."""
    names = {use.name, *use.figures}
    paths = [path for place in ("", "figures", "uses") for path in (folder / place).glob("*") if path.is_file()]
    return any(belongs_to(path.stem, name) for path in paths for name in names if path.name != "latents.png")


def _damaged(run: Run, name: str, error: Exception) -> InputError:
    verb = {"evidence.json": "evaluate", "gap.json": "gap", "check.json": "check"}.get(name, "fit")
    return InputError(f"{run.path / name} is damaged ({reason(error)}): remove it, or write it anew with {verb}")
