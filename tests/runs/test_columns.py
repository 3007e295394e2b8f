"""Tables that are written part by part have the rows of all parts, in their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ppl_vae.runs import write_table


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_no_part_of_a_table_is_lost(tmp_path: Path, suffix: str, count: int) -> None:
    path, mean = tmp_path / f"z{suffix}", np.arange(count * 4.0).reshape(count, 2, 2)
    parts = ({"mean": rows, "sd": rows + 0.5, "y": rows[:, 0].astype(int)} for rows in mean)
    write_table(path, ["a", "b"], parts, ("mean", "sd"))
    rows = mean.reshape(-1, 2)
    if suffix == ".npz":
        with np.load(path) as table:
            np.testing.assert_array_equal(table["mean"], rows)
            np.testing.assert_array_equal(table["sd"], rows + 0.5)
            np.testing.assert_array_equal(table["y"], rows[:, 0])
    else:
        read = np.genfromtxt(path, delimiter=",", skip_header=1, ndmin=2)
        np.testing.assert_array_equal(read, np.column_stack([rows, rows + 0.5, rows[:, 0]]))
