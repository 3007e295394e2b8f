"""The page of the results, which depends only on the files of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import results
import works
from chart import chart

PROFILED = {
    "IWAE, 500 draws of 100 data": "IWAE, 5000 draws each of 100 data, vae 784-400-20",
    "20 steps in lambda of 1000 data": "200 steps in lambda of 1000 data, vae 784-400-20",
    **{f"training step, batch {n}": f"training step, vae 784-400-20, batch {n}" for n in (32, 128, 512)},
}
"""The task of a ratio, by the shorter one that is profiled for it."""
UNMEASURED = "Nothing was measured on a GPU: the machine used here has none."


def publish(folder: Path) -> None:
    """Write the page and the chart from the files in a folder."""
    rows, measured = results.read(folder / "results.json", []), results.read(folder / "measurements.json", {})
    results.write(folder / "RESULTS.md", page(rows, measured, profiles(folder)))
    if rows:
        results.write(folder / "results.png", chart(rows))


def profiles(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the shares of a step and the growth with the length of sequences, by instruction set."""
    both = [results.read(folder / name, {}) for name in ("shares.json", "sequences.json")]
    return {isa: {key: entry for of in both for key, entry in of.get(isa, {}).items()} for of in both for isa in of}


def page(
    rows: Sequence[results.Row], measured: Mapping[str, Mapping[str, Any]], profiles: Mapping[str, Mapping[str, Any]]
) -> str:
    """Return the page in Markdown.

    Args:
        rows: the ratios, each with its instruction set.
        measured: all other measurements, by instruction set and task.
        profiles: the shares of a step and the growth with the length of sequences, by instruction set.
    """
    sections = [
        [
            "# Results",
            "",
            "`make bench` writes this page, and `make bench ISA=avx2` adds what the same machine does without newer",
            "instructions. `benchmarks/README.md` explains how the contestants are made comparable.",
            "",
            "![The ratios and their ranges](results.png)",
        ],
    ]
    for isa in dict.fromkeys([*(row["isa"] for row in rows), *measured, *profiles]):
        entries = measured.get(isa, {})
        of_isa = [
            machines(entries),
            ratios([row for row in rows if row["isa"] == isa]),
            *(section(entries) for section in (contestants, throughput, cold, growth)),
            *(section(profiles.get(isa, {})) for section in (lengths, shares)),
            rest([row for row in rows if row["isa"] == isa], entries, profiles.get(isa, {})),
        ]
        sections.append([f"## Instruction set: {isa}"])
        sections += [[f"#{line}" if line.startswith("#") else line for line in lines] for lines in of_isa if lines]
    sections.append(gpu([entry for entries in measured.values() for entry in entries.items()]))
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table; all columns except the first are aligned to the right."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def duration(seconds: float) -> str:
    """Return a duration with three significant digits."""
    if seconds < 0.9995:
        return f"{1e3 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 999.5 else f"{seconds:.0f} s"


def capital(text: str) -> str:
    """Return a text with a capital first letter."""
    return text[0].upper() + text[1:]


def machines(measured: Mapping[str, Any]) -> list[str]:
    """Return the section on the machines, the number of repetitions and the dates."""
    if not measured:
        return []
    lines = ["## Machines", ""]
    described: dict[str, list[str]] = {}
    for part in works.PARTS:
        if part in measured:
            described.setdefault(machine(measured[part]["machine"]), []).append(part)
    lines += [f"- {', '.join(parts)}: {text}" for text, parts in described.items()]
    rows = []
    for part, entry in ((part, measured[part]) for part in works.PARTS if part in measured):
        steps = f"{entry['steps']}" if entry.get("steps", 1) > 1 else ""
        kind = "a trial" if entry["is_trial"] else ""
        rows.append([part, f"{entry['repetitions']}", steps, entry["date"], f"{entry['took_seconds']} s", kind])
    total = sum(entry["took_seconds"] for entry in measured.values())
    lines += ["", *table(["part", "repetitions", "steps per turn", "date", "duration", ""], rows)]
    return [*lines, "", f"{total / 60:.0f} minutes in total."]


def machine(facts: Mapping[str, Any]) -> str:
    """Return the description of a machine and its packages in one line."""
    ours = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    peers = ", ".join(f"{name} {version}" for name, version in facts["peers"].items())
    gpu = f"; GPU {facts['gpu']}" if facts["gpu"] else ""
    return (
        f"{facts['processor']}, {facts['cores']} cores, {facts['system']}, {facts['threads']} threads{gpu}. "
        f"Python {facts['python']}, {ours}, fp32 products at {facts['matmul_precision']!r}; the peers use {peers}. "
        f"Data: {facts['data']}."
    )


def ratios(rows: Sequence[results.Row]) -> list[str]:
    """Return the tables of ratios, one per task."""
    if not rows:
        return []
    lines = [
        "## Ratios",
        "",
        "Our seconds divided by the seconds of the peer; below 1, ppl_vae is faster. The ratio is the median over",
        "pairs of neighbouring turns, and the range covers all pairs. Each column of seconds has its own median. The",
        "time of a step includes the selection of the rows of its batch.",
    ]
    for work in dict.fromkeys(row["work"] for row in rows):
        cells = []
        for row in (row for row in rows if row["work"] == work):
            low, high = row["ratio_range"]
            bound = row.get("at_most")
            is_met = "" if bound is None else "yes" if row["ratio"] <= bound else "no"
            cells.append(
                [
                    row["peer"],
                    duration(row["ours_seconds"]),
                    duration(row["peer_seconds"]),
                    f"{row['ratio']:.2f}",
                    f"{low:.2f} to {high:.2f}",
                    "" if bound is None else f"{bound:.2f}",
                    is_met,
                ]
            )
        lines += ["", f"### {capital(work)}", ""]
        lines += table(["compared with", "ppl_vae", "peer", "ratio", "range", "required at most", "met"], cells)
    return lines


def compared(measured: Mapping[str, Any]) -> Iterator[tuple[works.Work, Mapping[str, Any]]]:
    """Yield every measured task with its measurements."""
    for part, work in works.WORKS.items():
        if part in measured:
            yield work, measured[part]


def contestants(measured: Mapping[str, Any]) -> list[str]:
    """Return the section with the time, the memory and the value of every contestant."""
    if not measured:
        return []
    lines = [
        "## Contestants",
        "",
        "All contestants start from the same parameters and use the same batches in the same order. Each draws its own",
        "noise, so the values in the last column should agree up to some tenths of a nat. Steps in lambda are an",
        "exception: the learning rate of ppl_vae falls with a cosine, and its Adam has other betas than that of SVI.",
        "A loss is minus the ELBO, averaged over the steps of the second turn. Peak memory covers the whole process,",
        "including its libraries and data.",
    ]
    for work, entry in compared(measured):
        rows = [
            [name, duration(answer["seconds"]), f"{answer['peak_mib']:,}", f"{answer['value']:.2f}"]
            for name, answer in entry["contestants"].items()
            if name != works.PRODUCTS.name
        ]
        unit = "per step" if work.each_step else "per turn"
        lines += ["", f"### {capital(work.title)}: contestants", "", *table(["", unit, "peak, MiB", work.value], rows)]
    if "fit" in measured:
        epochs = ", ".join(f"{number} ({name})" for name, number in measured["fit"]["epochs"].items())
        lines += ["", f"Number of epochs after which the default fit stops: {epochs}."]
    return lines


def throughput(measured: Mapping[str, Any]) -> list[str]:
    """Return the section that compares the rate of evaluation with the rate of its matrix products."""
    if "iwae" not in measured:
        return []
    work, answers, draws = works.WORKS["iwae"], measured["iwae"]["contestants"], measured["iwae"]["draws"]
    products = answers[works.PRODUCTS.name]
    rate = products["value"] * draws / products["seconds"]
    rows = [
        [name, f"{draws / answer['seconds']:,.0f}", f"{products['seconds'] / answer['seconds']:.0%}"]
        for name, answer in answers.items()
        if answer is not products
    ]
    return [
        "## Evaluation",
        "",
        f"{work.title}. In the same turns, PyTorch runs the two",
        f"matrix products of the decoder alone at {rate / 1e9:.0f} GFLOP/s, with the fastest number of draws at once.",
        "The last column is the time of these products divided by the time of the contestant.",
        "",
        *table(["", "decoded samples per second", "share of the rate of the matrix products"], rows),
    ]


def cold(measured: Mapping[str, Any]) -> list[str]:
    """Return the section on the start of a process."""
    if "cold" not in measured:
        return []
    rows = [
        [
            row["contestant"],
            f"{row['cache']}" or "none",
            duration(row["import_seconds"]),
            duration(row["first_step_seconds"]),
        ]
        for row in measured["cold"]["rows"]
    ]
    return [
        "## Cold start",
        "",
        f"{capital(works.WORKS['step'].title)}, in a process that runs alone. The first step",
        "includes tracing, compilation and the construction of the networks.",
        "",
        *table(["", "Inductor's cache", "import", "first step"], rows),
    ]


def growth(measured: Mapping[str, Any]) -> list[str]:
    """Return the section on the time of a step by batch size, width and number of particles."""
    lines = ["## Growth", "", f"{capital(works.WORKS['step'].title)}, with one setting changed: the time of a step."]
    names = [contestant.name for contestant in works.WORKS["batch32"].contestants()]
    for axis, points in works.GROWTH.items():
        answers = {value: measured[part]["contestants"] for value, part in points.items() if part in measured}
        rows = [[f"{value}", *(duration(of[name]["seconds"]) for name in names)] for value, of in answers.items()]
        if len(rows) > 1:
            lines += ["", *table([axis, *names], rows)]
    return lines if len(lines) > 3 else []


def lengths(profile: Mapping[str, Any]) -> list[str]:
    """Return the section on steps of the deep Markov model as sequences get longer."""
    if "sequences" not in profile:
        return []
    entry = profile["sequences"]
    machine, rows = entry["machine"], entry["rows"]
    names = list(rows[0]["seconds"])
    cells = [
        [
            f"{row['length']:,}",
            *(duration(row["seconds"][name]) for name in names),
            f"{row['ratio']:.2f}",
            *(f"{row['peak_mib'][name]:,}" for name in names),
        ]
        for row in rows
    ]
    return [
        "## Length of sequences",
        "",
        f"Training step of the deep Markov model on 20 sequences, `sequences.py`, on {entry['date']}: "
        f"{machine['processor']}, {machine['cores']} cores, load {machine['load']:.1f}, "
        f"fp32 products at {machine['matmul_precision']!r}.",
        "The ratio is the median over pairs of neighbouring turns.",
        "",
        *table(["steps", *names, "ratio", *(f"peak, MiB: {name}" for name in names)], cells),
    ]


def shares(profile: Mapping[str, Any]) -> list[str]:
    """Return the section on the shares of a step."""
    if "shares" not in profile:
        return []
    entry = profile["shares"]
    machine, rows = entry["machine"], entry["rows"]
    kinds = list(dict.fromkeys(kind for row in rows for kind in row["shares"]))
    cells = [
        [
            row["task"],
            duration(row["seconds"]),
            *(f"{row['shares'].get(kind, 0.0):.0%}" for kind in kinds),
            *("" if row[name] is None else f"{row[name]:.0%}" for name in ("products alone", "Adam alone")),
            f"{row['rate'] / 1e9:.0f} of {row['largest_rate'] / 1e9:.0f}" if "rate" in row else "",
        ]
        for row in rows
    ]
    return [
        "## Where the time goes",
        "",
        f"Shares of a step by PyTorch's profiler, `shares.py`, on {entry['date']}: {machine['processor']}, "
        f"{machine['cores']} cores, load {machine['load']:.1f}, fp32 products at {machine['matmul_precision']!r}.",
        "Kernels are the elementwise work, the sums and Adam; dispatch is Python and the calls of operations. Alone",
        "are the same products and a fused Adam of the same parameters, as shares of the step. The last column is the",
        "rate of the products in the step, and that of a large one, in GFLOP/s. All is approximate under a load.",
        "",
        *table(["task", "a step", *kinds, "products alone", "Adam alone", "rate of products"], cells),
    ]


def rest(rows: Sequence[results.Row], measured: Mapping[str, Any], profile: Mapping[str, Any]) -> list[str]:
    """Return the table of what a goal leaves for everything but the matrix products, for goals that are not reached.

    A profile says nothing about tasks of another processor, or whose products ran at another precision.
    """
    entry = profile.get("shares", {"rows": []})
    products = {PROFILED.get(row["task"]): row["products alone"] for row in entry["rows"]}

    def conditions(of: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(of.get("machine", {}).get(key) for key in ("processor", "matmul_precision"))

    known = {works.WORKS[part].title: conditions(of) for part, of in measured.items() if part in works.WORKS}
    cells = []
    for row in rows:
        share, bound = products.get(row["work"]), row.get("at_most")
        same = known.get(row["work"]) == conditions(entry)
        if same and share is not None and bound is not None and row["ratio"] > bound:
            goal, alone = bound * row["peer_seconds"], share * row["ours_seconds"]
            beside = [duration(t - alone) if t > alone else "nothing" for t in (goal, row["ours_seconds"])]
            cells.append([row["work"], row["peer"], duration(goal), duration(alone), *beside])
    if not cells:
        return []
    return [
        "## What a goal leaves beside the matrix products",
        "",
        "The goals above that are not reached. A goal is the time of the peer, multiplied by the required ratio. The",
        "products alone are those of our step, at the rate at which PyTorch multiplies such matrices. All else",
        "is the elementwise work, random numbers, Adam, the look-up of the batch and dispatch.",
        "",
        *table(["task", "compared with", "goal", "products alone", "left for all else", "all else here"], cells),
    ]


def gpu(measured: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Return the section that says whether a GPU was measured, from tasks and their measurements."""
    on_gpu = [entry for part, entry in measured if part in works.WORKS and works.WORKS[part].needs_gpu]
    cards = sorted({entry["machine"]["gpu"] for entry in on_gpu if entry["machine"]["gpu"]})
    return ["## GPU", "", f"The tasks on a GPU were measured on {', '.join(cards)}." if cards else UNMEASURED]
