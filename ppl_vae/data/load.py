"""Loading a data set by its name or from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ppl_vae.data import sequences
from ppl_vae.data.binarize import Binarize, binarize_parts, check_binarize
from ppl_vae.data.cells import CELL_SUFFIXES, CellOptions, arrays_of_cells, cells_in_file
from ppl_vae.data.dataset import Dataset
from ppl_vae.data.digits import load_digits
from ppl_vae.data.files import SUFFIXES, guarded, read_file
from ppl_vae.data.frames import match_columns
from ppl_vae.data.images import Grey, check_grey, check_image_shape, infer_image_shape
from ppl_vae.data.kinds import parse_kinds
from ppl_vae.data.load_stored import load_sources, split_stored
from ppl_vae.data.opening import find_files, is_pattern, is_there, open_files
from ppl_vae.data.parts import parts_of, scale_bytes, split_parts
from ppl_vae.data.sequences import is_padded, pad_parts
from ppl_vae.data.split import MOST_BLOCKS, PARTS
from ppl_vae.data.stored import StoredRows, in_memory
from ppl_vae.data.table import ARROW_SUFFIXES, TEXT_SUFFIXES, TableOptions, read_table, read_table_like
from ppl_vae.data.text_file import Layout
from ppl_vae.data.vision import CLASSES, load_vision
from ppl_vae.display.lists import split_list
from ppl_vae.errors import InputError, nearest

DATASETS = ("digits", *CLASSES)
INK = ("digits", "mnist", "kmnist", "emnist", "omniglot")
"""Data sets whose high values are ink."""
ALL_SUFFIXES = (*SUFFIXES, *TEXT_SUFFIXES, *ARROW_SUFFIXES, *CELL_SUFFIXES)


def load_dataset(
    data: str | Path = "digits",
    *,
    data_root: str | Path | None = None,
    binarize: Binarize | None = None,
    image_shape: Sequence[int] | None = None,
    grey: Grey | None = None,
    columns: str | None = None,
    drop: str | None = None,
    index: str | None = None,
    kinds: str | None = None,
    arguments: str | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
    header_lines: int | None = None,
    encoding: str | None = None,
    layer: str | None = None,
    obs: str | None = None,
    cut_sequences: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Load a named image set or a file as named arrays that have been checked.

    A ``.npz`` file holds x_train, x_valid, x_test (likewise y and any other array); if a part is missing,
    it becomes a tenth of train, and arrays called just x, y are split 80/10/10 %. A ``.npy`` file is x.

    An HDF5 file (.h5, .hdf5) and a zarr store (.zarr) are like an ``.npz`` file; groups train, valid and test may hold
    the arrays of a part. A folder, or a pattern such as ``shards/part-*.npy``, is files of one format, one after the
    other: .npy, .npz, .h5, .zarr or .parquet. Folders train, valid and test inside it hold the parts.

    Data of more than 256 MiB stay on disk, and are read in blocks. A split deals single rows to the parts if the data
    are few, and blocks of rows if they are many: HDF5, zarr and shards are cut into 16,384 blocks at most.

    A table has one row per datum: delimited text, with or without a line of names, Parquet or Feather. A column called
    y or label, of whole numbers or texts, is y; one that has the name of another argument is an array of its
    own; all others are x. What is guessed about a file is in ``notes``.

    An ``.h5ad`` file has one row per cell: x is X or a layer, and stays sparse in memory, or in the file if its numbers
    take more than 4 GiB; a column of obs that has the name of
    an argument is an array of its own, and an argument called exposure is the sum of a cell's counts.

    With arrays lengths_train and so on, one whole number per datum, x holds padded sequences ``(N, T, ...)`` of these
    lengths. The values past their ends are set to zero, and T may differ between the parts.

    Args:
        data: file, folder of files, or name of a data set. Files are .npz, .npy, .csv, .tsv, .txt, .h5, .zarr,
            .parquet, .feather or .h5ad; a pattern such as part-*.npy names several. Data sets are digits, mnist,
            fashion-mnist, kmnist, emnist and omniglot.
        data_root: folder of downloaded image sets. By default it is ~/.cache/ppl_vae.
        binarize: way to turn grey values into bits. "threshold" gives 1 from half the range up, "static" draws each bit
            once, by the seed, "dynamic" draws the training data anew in every epoch, and "none" keeps the values. The
            default is threshold for a named image set, whose grey values a Bernoulli likelihood cannot observe, and
            none for a file. Images of bytes in a file are divided by 255 if they become bits, and kept otherwise.
        image_shape: shape of x as an image, [H,W] or [H,W,3]. By default it is inferred from data stored as (H, W),
            (1, H, W), (3, H, W) or (H, W, 3), unless they are sequences. A vector of pixels is reshaped, so that its
            channels come last.
        grey: way to draw grey images. With "ink" high values are dark, and with "light" they are light. The default is
            ink for digits, mnist, kmnist, emnist and omniglot, and light for fashion-mnist and for files.
        columns: columns of a table to use, such as age,income. By default all columns are used.
        drop: columns of a table to leave out.
        index: column that numbers the rows, which is left out. "none" keeps all columns. By default it is a column that
            counts the rows and has no name, or one such as id.
        kinds: kinds of columns, such as age=count. A YAML file may hold them too. The kinds are real, positive, count,
            binary, categorical and ordinal; by default they are inferred from the values.
        arguments: arguments of the model that take columns. An argument takes the column of its name. By default these
            are those of the model in a fit, and x otherwise.
        delimiter: delimiter of a text file. A space stands for any white space. By default it is inferred.
        decimal: decimal sign of a text file, a point or a comma. By default it is inferred.
        header_lines: number of lines before the data of a text file. It is 0, 1 for names, or 2 for names and units. By
            default it is inferred.
        encoding: encoding of a text file. By default it is UTF-8, or Windows-1252 if the file is not UTF-8.
        layer: layer of an .h5ad file to use, such as counts. By default it is X.
        obs: columns of obs in .h5ad, such as batch=donor. They are taken by arguments that have other names, as
            in batch=donor,y=cell_type. By default an argument takes the column of its name.
        cut_sequences: largest number of steps of a training sequence. Longer ones are cut into pieces, each of which is
            a datum that begins as a sequence does. Those of valid and test stay whole.
        seed: seed of the split and of the draws.

    Returns:
        The data set: x, shape ``(N, ...)``; if there are labels or lengths, whole numbers, shape ``(N,)``.

    Raises:
        InputError: if the name is unknown, the file is missing or broken, the download fails, an array does not
            pass the checks of ``Dataset``, or ``binarize``, ``image_shape``, ``grey`` or ``seed`` is wrong.

    References:
        Salakhutdinov and Murray (2008) for "static", Burda et al. (2016) for "dynamic".

    Example:
        >>> load_dataset("digits").describe()
        'digits: 1257 train, 180 valid, 360 test; x 64, y; x binarised (threshold)'
    """
    is_named = str(data) in DATASETS
    how = ("threshold" if is_named else "none") if binarize is None else binarize
    check_binarize(how)
    check_grey(grey)
    if is_named:
        read = _load_named(str(data), data_root, seed)
    else:
        path, layout = _path_of(data), Layout(delimiter, decimal, header_lines, encoding)
        options, names = TableOptions(columns, drop, index, kinds, layout), split_list(arguments or "x")
        is_cells = path.suffix.lower() in CELL_SUFFIXES
        if is_cells:
            _refuse(
                path,
                {**_given(replace(options, kinds=None)), "binarize": None if how == "none" else how},
                "a file of cells",
            )
        else:
            _refuse(path, {"layer": layer, "obs": obs}, "no .h5ad file")
            if not is_table(path):
                _refuse(path, _given(options), "no table")
        if is_cells:
            read = _load_cells(path, CellOptions(layer, obs), kinds, names, seed)
        elif (stored := load_sources(path, find_files(path), options, names, seed, is_unit=how != "none")) is not None:
            read = stored
        elif is_table(path):
            read = _load_table(path, options, names, seed)
        else:
            read = _load_arrays(path, seed, is_unit=how != "none")
    if "x" not in read.train and (image_shape is not None or how != "none"):
        raise InputError(f"{read.name} has no array x: leave out image_shape and binarize")
    if image_shape is not None:
        shape = check_image_shape(read.name, image_shape, read.train["x"].shape[1:])
        read = replace(read, image_shape=shape)
    read = replace(read, grey=grey or ("ink" if str(data) in INK else "light"))
    if cut_sequences is not None:
        read = _with_pieces(read, cut_sequences)
    if how == "none":
        return read
    bits = binarize_parts(read.name, {part: read.part(part) for part in PARTS}, how, seed)
    return replace(read, train=bits["train"], valid=bits["valid"], test=bits["test"], binarize=how)


def _with_pieces(read: Dataset, longest: int) -> Dataset:
    """Return data whose training sequences are cut into pieces."""
    if isinstance(read.train, StoredRows):
        raise InputError(f"{read.name} is on disk, where sequences cannot be cut: leave out cut_sequences")
    pieces = sequences.cut_sequences(read.name, read.train, longest)
    note = f"train: {len(read.train['x'])} sequences cut into {len(pieces['x'])} pieces of at most {longest} steps"
    return replace(read, train=pieces, notes=(*read.notes, note))


def _load_named(name: str, data_root: str | Path | None, seed: int) -> Dataset:
    parts, image_shape = load_digits(seed) if name == "digits" else load_vision(name, data_root, seed)
    return Dataset(name, **parts, image_shape=image_shape)  # type: ignore[arg-type]


def _path_of(data: str | Path) -> Path:
    path = Path(data).expanduser()
    if len(path.parts) <= 1 and not path.suffix and not (str(data) and is_there(path)) and not is_pattern(path):
        raise InputError(
            f"unknown data set {str(data)!r}: {nearest(str(data).lower(), DATASETS)}, "
            f"or the path of a file ({', '.join(ALL_SUFFIXES[:3])}, ...)"
        )
    return path


def is_table(data: str | Path) -> bool:
    """Return True if data are the path of a file, or of shards, that are read as a table.

    Example:
        >>> is_table("digits"), is_table("own.npz"), is_table("own.csv")
        (False, False, True)
    """
    if str(data) in DATASETS:
        return False
    path = Path(data).expanduser()
    if is_there(path, folder=True) or is_pattern(path):
        return find_files(path).is_table
    return path.suffix.lower() not in SUFFIXES


def load_arrays(path: Path, like: Dataset | None = None) -> dict[str, np.ndarray]:
    """Read the arrays of a file as they are; those of a table have the columns and codes of a data set, with holes.

    Args:
        path: path of the file.
        like: the data set, for a table.

    Raises:
        InputError: if the file is broken, or a table lacks a column of the data set.
    """
    known = {} if like is None else like.arrays_columns
    if not (files := find_files(path)).is_single:
        names = ["x"] if like is None else list(like.train)
        sources = open_files(files, TableOptions(), names) or {}
        return in_memory(match_columns(StoredRows(sources["train"]), known, str(path)))
    if not is_table(path):
        return read_file(path)
    with guarded(path, ALL_SUFFIXES):
        if path.suffix.lower() in CELL_SUFFIXES:
            options, names = (like.cells, list(like.train)) if like is not None else (CellOptions(), ["x"])
            cells = cells_in_file(path, options.layer)
            arrays, _ = arrays_of_cells(cells, names, options.column_of(), known=known)
            return in_memory(match_columns(arrays, known, str(path)))
        if known:
            return read_table_like(path, known)
        return read_table(path).table.arrays()


def _load_table(path: Path, options: TableOptions, arguments: Sequence[str], seed: int) -> Dataset:
    with guarded(path, ALL_SUFFIXES):
        read = read_table(path, options)
        read.check_finite()
        arrays = read.table.arrays(arguments)
    if list(arrays) == ["y"]:
        raise InputError(f"{path} has labels only: expected at least one more column, for x")
    parts = split_parts(path.name, {"train": arrays}, seed)
    return Dataset(path.name, parts["train"], parts["valid"], parts["test"], notes=read.notes, form=read.form)


def _load_cells(path: Path, options: CellOptions, kinds: str | None, arguments: Sequence[str], seed: int) -> Dataset:
    with guarded(path, ALL_SUFFIXES):
        cells = cells_in_file(path, options.layer)
        arrays, notes = arrays_of_cells(cells, arguments, options.column_of(), kinds=parse_kinds(kinds))
    parts: Mapping[str, Any]
    if isinstance(arrays, StoredRows):
        parts = split_stored(path.name, {"train": arrays}, seed, MOST_BLOCKS)
    else:
        parts = split_parts(path.name, {"train": arrays}, seed)
    return Dataset(path.name, parts["train"], parts["valid"], parts["test"], notes=notes, cells=options)


def _load_arrays(path: Path, seed: int, *, is_unit: bool) -> Dataset:
    arrays = pad_parts(path.name, read_file(path))
    if is_unit:
        arrays = scale_bytes(arrays)
    parts = parts_of(path.name, arrays, seed)
    train = parts["train"]
    image_shape = None if is_padded(train) else infer_image_shape(train["x"].shape[1:])
    return Dataset(path.name, train, parts["valid"], parts["test"], image_shape=image_shape)


def _given(options: TableOptions) -> dict[str, Any]:
    """Return the values of the options of a table by their names on the command line."""
    layout = options.layout
    of_table = {name: getattr(options, name) for name in ("columns", "drop", "index", "kinds")}
    of_text = {"delimiter": layout.delimiter, "decimal": layout.decimal, "header-lines": layout.header_lines}
    return {**of_table, **of_text, "encoding": layout.encoding}


def _refuse(path: Path, options: Mapping[str, Any], what: str) -> None:
    """Raise ``InputError`` if an option is given that does not belong to a file."""
    for name, value in options.items():
        if value is not None:
            raise InputError(f"--{name} {value}: {path} is {what}, so leave the option out")
