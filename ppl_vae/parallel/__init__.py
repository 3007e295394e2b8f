"""Processes that train one program together: their ranks, the rows of each, and sums over them."""

from ppl_vae.parallel.portions import Portion, part_of, portion_of
from ppl_vae.parallel.ranks import ALONE, LostProcess, Ranks, joined, present

__all__ = ["ALONE", "LostProcess", "Portion", "Ranks", "joined", "part_of", "portion_of", "present"]
