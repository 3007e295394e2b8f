"""Processes that work on one program: their ranks, the rows of each, sums over them, and shards that need none."""

from ppl_vae.parallel.portions import Portion, part_of, portion_of
from ppl_vae.parallel.ranks import ALONE, LostProcess, Ranks, joined, present
from ppl_vae.parallel.shards import ALL, WHOLE, RowSpan, Shard, describe_numbers, parse_shard, seed_at

__all__ = [
    "ALL",
    "ALONE",
    "WHOLE",
    "LostProcess",
    "Portion",
    "Ranks",
    "RowSpan",
    "Shard",
    "describe_numbers",
    "joined",
    "parse_shard",
    "part_of",
    "portion_of",
    "present",
    "seed_at",
]
