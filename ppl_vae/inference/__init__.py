"""Inference: one method a file. A method is a generator of steps; the training loop is the same for all."""

from ppl_vae.compile.compiler import Compile, Compiler
from ppl_vae.inference.amortized import AmortizedOptions, amortized_steps
from ppl_vae.inference.encoder import derive_encoder
from ppl_vae.inference.families import Family, FamilyName, make_family
from ppl_vae.inference.local import Rows, refine
from ppl_vae.inference.method import LAMBDA, NUMBER, Method, Step, random_latents
from ppl_vae.inference.methods import METHODS, proposal
from ppl_vae.inference.objectives import Baseline, Bound, Gradient, elbo, iwae, tempered
from ppl_vae.inference.options import MethodOptions
from ppl_vae.inference.per_datum import LocalOptions, LocalSteps, at_prior, infer
from ppl_vae.inference.per_sample import PerSample, PerSampleOptions, per_sample_steps
from ppl_vae.inference.semi_amortized import EncoderObjective, SemiAmortizedOptions, encoded, semi_amortized_steps
from ppl_vae.inference.table import Table
from ppl_vae.inference.training import Epoch, Schedule, Training, TrainingOptions, group

__all__ = [
    "LAMBDA",
    "METHODS",
    "NUMBER",
    "AmortizedOptions",
    "Baseline",
    "Bound",
    "Compile",
    "Compiler",
    "EncoderObjective",
    "Epoch",
    "Family",
    "FamilyName",
    "Gradient",
    "LocalOptions",
    "LocalSteps",
    "Method",
    "MethodOptions",
    "PerSample",
    "PerSampleOptions",
    "Rows",
    "Schedule",
    "SemiAmortizedOptions",
    "Step",
    "Table",
    "Training",
    "TrainingOptions",
    "amortized_steps",
    "at_prior",
    "derive_encoder",
    "elbo",
    "encoded",
    "group",
    "infer",
    "iwae",
    "make_family",
    "per_sample_steps",
    "proposal",
    "random_latents",
    "refine",
    "semi_amortized_steps",
    "tempered",
]
