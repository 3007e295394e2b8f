"""Data sets as named arrays: functions that load, check and binarise them, and batches of them.

Example:
    >>> from ppl_vae.data import Batches, load_dataset
    >>> digits = load_dataset("digits", seed=0)
    >>> batches = Batches(digits.train, ["x", "y"], batch_size=128)
    >>> x, y = next(batches.shuffled(seed=1))
    >>> tuple(x.shape), tuple(y.shape)
    ((128, 64), (128,))
"""

from __future__ import annotations

from ppl_vae.data.batches import Batches, sizes, subset
from ppl_vae.data.binarize import BINARIZE, Binarize
from ppl_vae.data.checks import as_condition, is_one_hot, name_arrays
from ppl_vae.data.columns import table_columns
from ppl_vae.data.dataset import Dataset
from ppl_vae.data.files import read_file
from ppl_vae.data.images import as_images
from ppl_vae.data.joined import Stacked, choose_arrays, is_equal, with_arrays, with_numbers
from ppl_vae.data.kinds import KINDS, Variable
from ppl_vae.data.load import DATASETS, is_table, load_arrays, load_dataset
from ppl_vae.data.memory import describe_size, memory_for_data, parse_size
from ppl_vae.data.missing import Holes, describe_empty_rows, fill_missing, find_holes, mask_of
from ppl_vae.data.precision import check_precision
from ppl_vae.data.sequences import LENGTHS, cut_sequences, is_padded
from ppl_vae.data.source import NamedArrays, Source, as_source, block_slices
from ppl_vae.data.split import PARTS, Part, hold_out
from ppl_vae.data.stored import StoredRows
from ppl_vae.data.stream import StreamedBatches, choose_batches
from ppl_vae.data.survey import survey
from ppl_vae.data.table import describe_columns
from ppl_vae.data.trimming import lengths_of, one_step, shortened, sort_by_length, trim, trim_rows
from ppl_vae.imports import import_torchvision

__all__ = [
    "BINARIZE",
    "DATASETS",
    "KINDS",
    "LENGTHS",
    "PARTS",
    "Batches",
    "Binarize",
    "Dataset",
    "Holes",
    "NamedArrays",
    "Part",
    "Source",
    "Stacked",
    "StoredRows",
    "StreamedBatches",
    "Variable",
    "as_condition",
    "as_images",
    "as_source",
    "block_slices",
    "check_precision",
    "choose_arrays",
    "choose_batches",
    "cut_sequences",
    "describe_columns",
    "describe_empty_rows",
    "describe_size",
    "fill_missing",
    "find_holes",
    "hold_out",
    "import_torchvision",
    "is_equal",
    "is_one_hot",
    "is_padded",
    "is_table",
    "lengths_of",
    "load_arrays",
    "load_dataset",
    "mask_of",
    "memory_for_data",
    "name_arrays",
    "one_step",
    "parse_size",
    "read_file",
    "shortened",
    "sizes",
    "sort_by_length",
    "subset",
    "survey",
    "table_columns",
    "trim",
    "trim_rows",
    "with_arrays",
    "with_numbers",
]
