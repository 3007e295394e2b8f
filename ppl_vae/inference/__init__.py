"""Inference: one method a file. A method is a generator of steps; the training loop is the same for all."""

from ppl_vae.compile.compiler import Compile, Compiler
from ppl_vae.inference.amortized import Step, amortized_steps
from ppl_vae.inference.encoder import derive_encoder
from ppl_vae.inference.families import Family, FamilyName, make_family
from ppl_vae.inference.local import Rows, refine
from ppl_vae.inference.objectives import Baseline, Bound, Gradient, elbo, iwae, tempered
from ppl_vae.inference.per_sample import LocalSteps, at_prior, infer, per_sample_steps
from ppl_vae.inference.semi_amortized import EncoderObjective, semi_amortized_steps
from ppl_vae.inference.table import Table
from ppl_vae.inference.training import Epoch, Schedule, Training, group

__all__ = [
    "Baseline",
    "Bound",
    "Compile",
    "Compiler",
    "EncoderObjective",
    "Epoch",
    "Family",
    "FamilyName",
    "Gradient",
    "LocalSteps",
    "Rows",
    "Schedule",
    "Step",
    "Table",
    "Training",
    "amortized_steps",
    "at_prior",
    "derive_encoder",
    "elbo",
    "group",
    "infer",
    "iwae",
    "make_family",
    "per_sample_steps",
    "refine",
    "semi_amortized_steps",
    "tempered",
]
