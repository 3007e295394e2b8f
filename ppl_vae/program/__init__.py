"""What a program is: the only room that knows Pyro's handlers and its parameter store."""

from ppl_vae.program.check import check, check_batch, check_observations
from ppl_vae.program.program import Batch, Draws, Program, WeightedDraws, seeded

__all__ = ["Batch", "Draws", "Program", "WeightedDraws", "check", "check_batch", "check_observations", "seeded"]
