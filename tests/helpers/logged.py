"""What a logger has written, read back from its own store by the library that it belongs to."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

Scalars = list[tuple[int, float]]


class Logged(NamedTuple):
    """The content of a log: numbers by name and step, settings and results by name, and the names of figures."""

    rows: dict[str, Scalars]
    settings: dict[str, str]
    results: dict[str, float]
    figures: set[str]


def read_csv(folder: Path) -> Logged:
    def table(name: str) -> list[dict[str, str]]:
        return list(csv.DictReader((folder / f"{name}.csv").read_text().splitlines()))

    rows = table("metrics")
    numbers = {name: [(int(row["step"]), float(row[name])) for row in rows] for name in rows[0] if name != "step"}
    settings, results = ({row["name"]: row["value"] for row in table(name)} for name in ("settings", "summary"))
    return Logged(numbers, settings, {name: float(value) for name, value in results.items()}, set())


def read_tensorboard(folder: Path) -> Logged:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    scalars = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    rows = {tag: values for tag, values in scalars.items() if "/" not in tag}
    results = {tag.replace("/", "."): values[-1][1] for tag, values in scalars.items() if "/" in tag}
    text = events.Tensors("settings/text_summary")[-1].tensor_proto.string_val[0].decode()
    settings = dict(re.findall(r"^\| (.*) \| (.*) \|$", text, re.MULTILINE)[1:])
    return Logged(rows, settings, results, {tag.removeprefix("figures/") for tag in events.Tags()["images"]})


def read_mlflow(folder: Path) -> Logged:
    from mlflow import MlflowClient

    client, run = MlflowClient(), (folder / "mlflow-run-id").read_text().strip()
    data = client.get_run(run).data
    metrics = {name: [(m.step, m.value) for m in client.get_metric_history(run, name)] for name in data.metrics}
    rows = {name: values for name, values in metrics.items() if "." not in name and name != "step"}
    results = {name: values[-1][1] for name, values in metrics.items() if "." in name}
    figures = {Path(file.path).stem for file in client.list_artifacts(run, "figures")}
    return Logged(rows, data.params, results, figures)


def read_wandb(folder: Path) -> Logged:
    """Read the files of an offline run; a resumed one has several, of which the first that has a row counts."""
    import wandb

    wandb.teardown()  # which ends the process that writes, as the end of a command does
    rows: dict[str, dict[int, float]] = {}
    settings, results, figures = {}, {}, set()
    runs = sorted((folder / "wandb").glob("offline-run-*/*.wandb"), key=os.path.getctime)
    assert len({path.stem for path in runs}) == 1
    for record in (record for path in runs for record in wandb_records(path.read_bytes())):
        update = {
            (item.key or "/".join(item.nested_key)): json.loads(item.value_json)
            for part in (record.run.config.update, record.config.update, record.summary.update, record.history.item)
            for item in part
        }
        kind = record.WhichOneof("record_type")
        if kind in ("run", "config"):
            settings |= {name: str(value) for name, value in update.items() if not name.startswith("_")}
        elif kind == "history":
            for name, value in update.items():
                if name.startswith("figures/"):
                    figures.add(name.split("/")[1])
                elif not name.startswith("_"):
                    rows.setdefault(name, {}).setdefault(record.history.step.num, value)
        elif kind == "summary":
            results |= {name: value for name, value in update.items() if "." in name}
    return Logged({name: sorted(values.items()) for name, values in rows.items()}, settings, results, figures)


def wandb_records(content: bytes) -> Iterator[Any]:
    """Yield the records of a file, whose format is that of LevelDB's log: blocks of 32 KiB, and parts of records."""
    from wandb.proto.wandb_internal_pb2 import Record

    place, whole, block = 7, b"", 2**15  # behind the header of the file
    while place + 7 <= len(content):
        if block - place % block < 7:
            place += block - place % block
            continue
        size, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        whole += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


READERS: dict[str, Callable[[Path], Logged]] = {
    "csv": read_csv,
    "tensorboard": read_tensorboard,
    "wandb": read_wandb,
    "mlflow": read_mlflow,
}
