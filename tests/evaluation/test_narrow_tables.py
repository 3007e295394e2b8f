"""Tables fit a terminal: headings take two lines, and then columns are left out by their rank and named."""

from __future__ import annotations

import pytest

from ppl_vae.evaluation import comparison, evaluation, gap
from ppl_vae.evaluation.table import Column, ResultTable

TABLES = {
    "evidence": (evaluation.COLUMNS, "iwae, 5000 draws", ["bits/dim"]),
    "gap": (gap.COLUMNS, "diagonal", ["IWAE", "steps", "ms per datum"]),
    "comparison": (comparison.COLUMNS, "runs/digits-vae", ["inference ms", "evidence s"]),
}


def table(columns: tuple[Column, ...], name: str) -> ResultTable:
    row = {column.key: -1234.5678 for column in columns[1:]} | {column.error: 0.5 for column in columns if column.error}
    return ResultTable("test, 360 data", columns, {name: row | {"estimator": "iwae", "doubtful": 0.1}})


@pytest.mark.parametrize("name", TABLES)
def test_a_table_fits_or_leaves_out_what_matters_least(name: str) -> None:
    columns, row, missing = TABLES[name]
    whole = table(columns, row)
    assert len(whole.lines(1000)) == 2
    lines = whole.lines(80)
    assert max(map(len, lines)) <= 80
    note = " ".join("\n".join(lines).partition("left out in 80 columns: ")[2].split())
    assert all(head in note for head in missing)
    printed = "\n".join(lines).replace(",", " ").split()
    assert set(printed) >= set(" ".join(whole.head).split())


def test_sentences_below_a_table_are_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = table(evaluation.COLUMNS[:2], "iwae").text("a sentence of many words " * 8)
    assert max(map(len, text.splitlines())) <= 60
    assert " ".join(text.split()).count("a sentence of many words") == 8
