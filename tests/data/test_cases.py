"""Tables as they are found: 36 files beside the project, each of which is read as a person would, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ppl_vae.data import Dataset, load_dataset
from ppl_vae.errors import InputError

CASES = Path(__file__).parents[3] / "shared" / "cases" / "20-csv"
ABC = "a:real b:real c:real"
READ = {
    "blank_lines": (ABC, ""),
    "bom": (ABC, ""),
    "comment": (ABC, ""),
    "crlf": (ABC, ""),
    "decimal_comma_2col_noheader": ("1:real 2:real", ""),
    "empty": (ABC, ""),
    "first_row_NA": ("1:count 2:count 3:count", ""),
    "first_row_question": ("1:positive 2:positive 3:positive", ""),
    "label_capital": ("a:count b:count y", ""),
    "label_from1": ("a:real b:real y", ""),
    "label_strings": ("a:real b:real y", ""),
    "latin1": ("größe:real b:real c:real", "--encoding"),
    "na": (ABC, ""),
    "nan_header_years": ("2019:real 2020:real 2021:real", "--header-lines 0"),
    "percent": ("a:real b:real", "in percent"),
    "quotes": ("a:real b,_in_cm:real c:real", ""),
    "semicolon_decimal_comma": (ABC, ""),
    "semicolon_noheader": ("1:real 2:real 3:real", ""),
    "semicolon_point": (ABC, ""),
    "space": ("1:real 2:real 3:real", ""),
    "strings": ("city:binary a:real b:real", ""),
    "tab": (ABC, ""),
    "target_named_class": ("a:real b:real class:binary", "--drop class"),
    "thousands": ("a:positive b:real", ""),
    "trailing_comma": (ABC, "column 4"),
    "true_false": ("a:binary b:real", ""),
    "units_row": (ABC, "--header-lines 1"),
    "utf16": (ABC, ""),
    "y_is_coordinate": ("lat:count long:count y", "under another name"),
    "y_real": ("a:real b:real y:real", ""),
}
"""The columns that a person sees in a file, with ``y`` for labels, and a part of the note on what was guessed."""
REFUSED = {
    "dates": ["'day'", "dates", "--drop day"],
    "dup_header_rowrepeat": ["line 102", "repeats the names"],
    "dup_names": ["two columns", "'x1'"],
    "hex_underscore": ["column 'a'", "underscore"],
    "id": ["2 rows are too few"],
}
"""The cause that the error names."""

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the files are not at hand")


def longer(path: Path, folder: Path) -> Path:
    """Return a file of a few rows with its last two repeated, so that it can be split; a longer one as it is."""
    if len(path.read_bytes()) > 200:
        return path
    lines = path.read_text().splitlines()
    longer = folder / path.name
    longer.write_text("\n".join([*lines, *lines[-2:] * 10]) + "\n")
    return longer


def seen(data: Dataset) -> str:
    """Return the columns that were read, as in ``READ``."""
    columns = [f"{column.name.replace(' ', '_')}:{column.kind}" for column in data.arrays_columns["x"]]
    return " ".join([*columns, *(["y"] if "y" in data.train else [])])


@pytest.mark.parametrize("name", READ)
def test_a_table_is_read_as_a_person_reads_it(name: str, tmp_path: Path) -> None:
    data = load_dataset(str(longer(CASES / f"{name}.csv", tmp_path)))
    columns, note = READ[name]
    assert seen(data) == columns
    assert note in " ".join(data.notes)


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_that_cannot_be_read_is_refused_with_its_cause(name: str) -> None:
    with pytest.raises(InputError) as caught:
        load_dataset(str(CASES / f"{name}.csv"))
    assert all(fact in str(caught.value) for fact in REFUSED[name]), str(caught.value)


def test_no_file_is_left_out() -> None:
    assert {path.stem for path in CASES.glob("*.csv")} <= {*READ, *REFUSED}
