"""Tables in files as people have them: read as a person would read them, or refused with the true cause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ppl_vae.data import Dataset, describe_columns, load_arrays, load_dataset, text_file
from ppl_vae.data.split import PARTS
from ppl_vae.data.text_file import read_text
from tests.helpers.messages import refusal

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 3)).round(4)
NUMBERS = "".join(f"{i},{i / 2},{i % 3}\n" for i in range(20))


def lines(x: np.ndarray = X, delimiter: str = ",", decimal: str = ".") -> str:
    return "".join(delimiter.join(str(value).replace(".", decimal) for value in row) + "\n" for row in x.tolist())


def write(folder: Path, content: str | bytes, name: str = "own.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def joined(data: Dataset, array: str = "x") -> np.ndarray:
    """Return the rows of all parts, sorted by their first number."""
    rows = np.concatenate([data.part(part)[array].reshape(len(data.part(part)[array]), -1) for part in PARTS])
    return rows[np.lexsort(rows.T[::-1])]


SORTED = X[np.lexsort(X.T[::-1])]

ROWS = lines().split()
QUOTED = "".join(",".join(f'"{value}"' for value in row) + "\n" for row in X)
R_ROWS = "".join(f'"r{i}" {row}\n'.replace(",", " ") for i, row in enumerate(ROWS))
WITH_ID = "".join(f"{i + 1},{row}\n" for i, row in enumerate(ROWS))
WITH_TEXT = "".join(f"{row},free {i}\n" for i, row in enumerate(ROWS))

SAME: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "comma": ("a,b,c\n" + lines(), {}, ""),
    "no names": (lines(), {}, ""),
    "semicolon": ("a;b;c\n" + lines(delimiter=";"), {}, ""),
    "decimal comma": ("a;b;c\n" + lines(delimiter=";", decimal=","), {}, ""),
    "decimal comma without names": (lines(delimiter=";", decimal=","), {}, ""),
    "tab": ("a\tb\tc\n" + lines(delimiter="\t"), {}, ""),
    "bar": ("a|b|c\n" + lines(delimiter="|"), {}, ""),
    "spaces": (lines(delimiter="   "), {}, ""),
    "space before": ("a, b, c\n" + lines(delimiter=", "), {}, ""),
    "sep line": ("sep=;\na;b;c\n" + lines(delimiter=";"), {}, ""),
    "quotes": ('"a","b, in cm","c"\n' + QUOTED, {}, ""),
    "quoted decimal comma": ("a,b,c\n" + QUOTED.replace(".", ","), {}, ""),
    "byte-order mark": ("\ufeffa,b,c\n" + lines(), {}, ""),
    "utf-16": (("a,b,c\n" + lines()).encode("utf-16"), {}, ""),
    "latin": (("größe,b,c\n" + lines()).encode("cp1252"), {}, "Windows-1252; --encoding decides"),
    "given encoding": (("größe,b,c\n" + lines()).encode("cp437"), {"encoding": "cp437"}, ""),
    "returns": (("a,b,c\n" + lines()).replace("\n", "\r\n"), {}, ""),
    "blank lines": ("\n\na,b,c\n" + lines().replace("\n", "\n\n"), {}, ""),
    "comments": ("# made by R\n# in 2020\na,b,c\n" + lines(), {}, ""),
    "years": ("2019,2020,2021\n" + lines(), {}, "line 1 (2019, 2020, 2021, ...) was read as names"),
    "positions": ("0,1,2\n" + lines(), {}, "--header-lines 0 reads it as data"),
    "units": ("a,b,c\ncm,kg,s\n" + lines(), {}, "line 2 was read as units (cm, kg, s)"),
    "given header": ("1.5,2,3\n" + lines(), {"header_lines": 1}, ""),
    "trailing comma": ("a,b,c,\n" + lines().replace("\n", ",\n"), {}, "column 4 has no name and no values"),
    "index of pandas": (
        pd.DataFrame(X, columns=list("abc")).to_csv(),
        {},
        "column '' counts the rows and was left out; --index none",
    ),
    "names of R": (f"a b c\n{R_ROWS}", {}, "left out as an index"),
    "id": (f"id,a,b,c\n{WITH_ID}", {}, "column 'id' counts"),
    "dropped": (f"a,b,c,t\n{WITH_TEXT}", {"drop": "t"}, ""),
    "chosen": (f"a,b,c,t\n{WITH_TEXT}", {"columns": "a,b,c"}, ""),
}


@pytest.mark.parametrize("form", SAME)
def test_the_same_numbers_in_every_form(form: str, tmp_path: Path) -> None:
    content, options, note = SAME[form]
    data = load_dataset(write(tmp_path, content), **options)
    assert np.array_equal(joined(data), SORTED)
    assert list(data.train) == ["x"]
    assert len(data.columns) == 3
    assert len(data.notes) == bool(note)
    assert note in " ".join(data.notes)


@pytest.mark.parametrize(
    ("text", "numbers", "note"),
    [
        ('"1,206.5"\n"12,345"\n', [1206.5, 12345], ""),
        ("1.206,5;1\n12.345;1\n", [1206.5, 12345], ""),
        ("1,206;1\n2,345;1\n", [1.206, 2.345], "read with a decimal comma; --decimal . reads"),
        ("1 206.5;1\n2;1\n", [1206.5, 2], ""),
        ("0.2%\n7 %\n", [0.2, 7], "column '1' is in percent"),
        ("1e3\n-2.5E-1\n", [1000, -0.25], ""),
        ("9007199254740993\n-1\n", [9007199254740993, -1], ""),
        ("True\nFalse\n", [1, 0], ""),
        ("no\nyes\n", [0, 1], ""),
    ],
)
def test_numbers_in_many_ways_of_writing(text: str, numbers: list[float], note: str, tmp_path: Path) -> None:
    rows = text.split("\n")[:2]
    data = load_dataset(write(tmp_path, "\n".join(rows * 10) + "\n"), header_lines=0, columns="1")
    assert sorted(set(joined(data)[:, 0].tolist())) == sorted(numbers)
    assert note in " ".join(data.notes)


@pytest.mark.parametrize("label", ["y", "label", " Label", '"y"'])
def test_labels_are_kept_apart(label: str, tmp_path: Path) -> None:
    data = load_dataset(write(tmp_path, f"a,b,{label}\n{NUMBERS}"))
    for part in PARTS:
        x, y = data.part(part)["x"], data.part(part)["y"]
        assert x.shape[1:] == (2,)
        assert y.dtype == np.int64
        assert np.array_equal(y, x[:, 0].astype(int) % 3)


def test_texts_become_codes_with_their_categories(tmp_path: Path) -> None:
    rows = "".join(f"{i / 7},{'dog' if i % 3 else 'cat'},{['low', 'high'][i % 2]}\n" for i in range(20))
    data = load_dataset(write(tmp_path, f"a,label,level\n{rows}"))
    assert data.arrays_columns["y"][0].categories == ("cat", "dog")
    assert set(data.train["y"].tolist()) == {0, 1}
    assert [(column.name, column.kind, column.categories) for column in data.columns] == [
        ("a", "real", ()),
        ("level", "binary", ("high", "low")),
    ]
    with pytest.raises(ValueError, match=r"column 'level' contains text \(high, low, \.\.\.\): encode it"):
        data.check_numbers()
    named = load_dataset(tmp_path / "own.csv", arguments="x,level")
    assert {name: array.shape[1:] for name, array in named.train.items()} == {"x": (1,), "level": (), "y": ()}
    named.check_numbers()
    assert load_dataset(write(tmp_path, f"a,y,b\n{NUMBERS}")).train["x"].shape[1:] == (3,)


def test_kinds_are_inferred_or_given(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i + 0.5},{i - 5},{i % 2},{i % 3 + 1},{i / 3 - 2}\n" for i in range(12))
    path = write(tmp_path, f"n,p,i,b,c,r\n{rows}")
    kinds = {column.name: column.kind for column in load_dataset(path).columns}
    assert kinds == {"n": "count", "p": "positive", "i": "real", "b": "binary", "c": "count", "r": "real"}
    data = load_dataset(path, kinds="c=categorical,p=real", index="none")
    assert [(c.kind, c.categories) for c in data.columns if c.name in "cp"] == [
        ("real", ()),
        ("categorical", (1, 2, 3)),
    ]
    assert set(data.train["x"][:, 4].tolist()) == {0, 1, 2}
    (tmp_path / "kinds.yaml").write_text("c: ordinal\n")
    assert load_dataset(path, kinds=str(tmp_path / "kinds.yaml")).columns[4].kind == "ordinal"
    for given, fact in {
        "p=count": "line 2, column 'p' has 0.5: kind count needs a whole number",
        "i=positive": "line 2, column 'i' has -5: kind positive needs a positive number",
        "c=binary": "column 'c' has 3 different values",
        "c=numeric": "c=numeric is unknown; known: binary",
        "d=real": "no column 'd'",
        "none": "expected age=count,income=positive, or a YAML file",
    }.items():
        assert fact in refusal(load_dataset, path, kinds=given)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("", ["no rows"]),
        ("\n \n", ["no rows"]),
        ("a,b\n", ["no rows"]),
        (f"{NUMBERS}1,what,2\n", ["line 21, column '2': 'what' is not a number"]),
        (f"1.5,what,2.5\n{NUMBERS}", ["line 1, column '2': 'what' is not a number"]),
        (
            f"a,b,c\n{NUMBERS}a,b,c\n{NUMBERS}",
            ["line 22, column 'a': 'a' is not a number: remove the line, which repeats"],
        ),
        (f"{NUMBERS}1,2\n", ["line 21 has 2 values, the first row 3"]),
        (f"{NUMBERS}1,2,3,4\n", ["line 21 has 4 values, the first row 3"]),
        (f"{NUMBERS * 20}1,2\n", ["line 401 has 2 values, the first row 3"]),
        (f"{NUMBERS}# the end\n", ["line 21 has 1 values", "a comment"]),
        (f"a\n{NUMBERS}", ["1 names and 3 columns"]),
        (f"a,a,c\n{NUMBERS}", ["two columns are called 'a'"]),
        (f"{NUMBERS}1,inf,2\n", ["line 21: column '2' has inf"]),
        (f"a,b,y\n{NUMBERS}1,2,-2\n", ["label out of range", "-2 in row 20"]),
        (f"y,b,label\n{NUMBERS}", ["2 columns are called y or label"]),
        ("y\n" + "1\n" * 20, ["labels only"]),
        ("1,2\n3,4\n", ["2 rows are too few"]),
        (
            "day,a\n" + "".join(f"2020-01-{i + 1:02},{i}.5\n" for i in range(20)),
            ["column 'day' has dates", "--drop day"],
        ),
        ("a,b\n" + "1_000,0.5\n" * 20, ["column 'a' has an underscore between digits"]),
        ("a,b\n" + "0x1F,0.5\n" * 20, ["column 'a' has a hexadecimal number"]),
        ("a,b\n" + "".join(f"text {i},0.5\n" for i in range(20)), ["column 'a' is free text, 20 different values"]),
        ("a;b\n" + "1.5;2\n" * 20 + "1,5;2\n", ["line 22, column 'a': '1,5' is not a number: --decimal ,"]),
    ],
)
def test_tables_that_cannot_be_read(text: str, facts: list[str], tmp_path: Path) -> None:
    message = refusal(load_dataset, write(tmp_path, text))
    assert all(fact in message for fact in facts)


LONG = [
    'a,b,c\n{}"x, y",2.5,\n',
    'a,b,c\r\n{}"x\ny",2.5,\r\n\r\n',
    'a,b,c\n\n{}"x ""y""",2.5,',
    "a,b,c,\n{}x,2.5,,\n",
    "a;b;c\n{}x;2.5;\n",
    "a\tb\tc\n{}x\t2.5\t\n",
]


@pytest.mark.parametrize("text", LONG)
def test_lines_of_a_long_table_are_counted_without_parsing_them(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways, of which one is fast, take the same lines, and refuse one that is too short."""
    delimiter = next(sign for sign in ";\t," if sign in text)
    closing = delimiter if text.startswith("a,b,c,") else ""
    rows = "".join(f"x{delimiter}{i}{delimiter}{i % 3}{closing}\n" for i in range(250))
    table = read_text(write(tmp_path, text.format(rows)))
    assert text_file._are_plainly_whole(table, len(table.frame.columns))
    assert len(table.frame) == 251
    short = write(tmp_path, text.format(f"{rows}x{delimiter}1\n"), "short.csv")
    message = refusal(read_text, short)
    assert f"line {252 + text.count('{}') + text.split('{}')[0].count(chr(10)) - 2} has 2 values" in message
    monkeypatch.setattr(text_file, "_are_plainly_whole", lambda *_: False)
    pd.testing.assert_frame_equal(read_text(table.path).frame, table.frame)
    assert refusal(read_text, short) == message


def test_a_column_of_numbers_that_has_a_text_far_below_keeps_its_texts(tmp_path: Path) -> None:
    """Types are found in blocks of lines: with 2,000 columns, in 512 lines."""
    rest = ",1" * 1999
    path = write(tmp_path, "".join(f"00{i % 7}{rest}\n" for i in range(600)) + f"x{rest}\n")
    first = read_text(path, kinds=["1"]).frame["1"]
    assert first.tolist() == [f"00{i % 7}" for i in range(600)] + ["x"]


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    assert "neither UTF-8 nor Windows-1252" in refusal(load_dataset, write(tmp_path, bytes(range(128, 256))))
    assert "it is no text" in refusal(load_dataset, write(tmp_path, b"1,2\n\0,3\n" * 20))


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"drop": "d"}, "--drop: "),
        ({"index": "d"}, "no column 'd'; known: a, b, c"),
        ({"columns": "a,b", "drop": "a,b"}, "no column left"),
        ({"delimiter": "ab"}, "delimiter 'ab'"),
        ({"decimal": ";"}, "decimal ';'"),
        ({"encoding": "nonsense"}, "encoding 'nonsense' is unknown"),
        ({"delimiter": ";"}, "is free text"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, str], fact: str, tmp_path: Path) -> None:
    assert fact in refusal(load_dataset, write(tmp_path, "a,b,c\n" + lines()), **options)
    np.save(tmp_path / "x.npy", X)
    assert "is no table, so leave the option out" in refusal(load_dataset, tmp_path / "x.npy", **options)


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
def test_tables_of_arrow(suffix: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(X, columns=list("abc")).assign(batch=pd.Categorical(np.resize(["p", "q"], 40)))
    getattr(frame, f"to_{suffix}")(path := tmp_path / f"own.{suffix}")
    data = load_dataset(path, arguments="x,batch")
    assert np.array_equal(joined(data), SORTED)
    assert data.arrays_columns["batch"][0].categories == ("p", "q")
    getattr(frame.assign(a=frame.a.mask(frame.a > 0)), f"to_{suffix}")(path)
    assert load_dataset(path).columns[0].missing == (frame.a > 0).sum()
    path.write_bytes(path.read_bytes()[:-9])
    assert "cannot read" in refusal(load_dataset, path)


def test_a_table_with_holes_has_the_columns_and_codes_of_the_fit(tmp_path: Path) -> None:
    rows = "".join(f"{i / 7},{i},{'ppq'[i % 3]},{i * 2.5}\n" for i in range(20))
    data = load_dataset(write(tmp_path, f"a,n,batch,c\n{rows}"), arguments="x,batch", drop="n")
    holes = write(tmp_path, "c,batch,more,a\n,q,1,2.5\n7.5,q,2,\n", "holes.csv")
    arrays = load_arrays(holes, data)
    assert np.array_equal(arrays["x"], [[2.5, np.nan], [np.nan, 7.5]], equal_nan=True)
    assert arrays["batch"].tolist() == [1, 1]
    assert "line 2, column 'batch' has 's', which the fit did not have" in refusal(
        load_arrays, write(tmp_path, "a,c,batch\n1,2,s\n1,2,p\n", "holes.csv"), data
    )
    assert "has no column 'c', which the fit has" in refusal(
        load_arrays, write(tmp_path, "a,b\n1,2\n", "holes.csv"), data
    )


def test_the_columns_are_listed(tmp_path: Path) -> None:
    data = load_dataset(
        write(tmp_path, "age,city,y\n" + "".join(f"{20 + i},{'uvw'[i % 3]},{i % 2}\n" for i in range(12)))
    )
    assert describe_columns(data.arrays_columns) == [
        "column  kind         missing  values",
        "age     count                 20 to 31",
        "city    categorical           3: u, v, w",
        "y       binary                0 to 1 (as y)",
    ]


def test_bits_of_a_table_keep_their_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n" + "0,1\n1,0\n" * 10)
    data = load_dataset(path, binarize="threshold")
    assert [column.name for column in data.columns] == ["a", "b"]
