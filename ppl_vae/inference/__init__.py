"""Inference: one method a file. A method is a generator of steps; the training loop is the same for all."""

from ppl_vae.compile.compiler import Compile, Compiler
from ppl_vae.inference.amortized import AmortizedOptions, amortized_steps
from ppl_vae.inference.encoder import derive_encoder
from ppl_vae.inference.families import Family, FamilyName, make_family
from ppl_vae.inference.local import LocalSteps, Rows, refine
from ppl_vae.inference.method import LAMBDA, NUMBER, Method, Step, random_latents
from ppl_vae.inference.methods import METHODS, proposal
from ppl_vae.inference.objectives import Bound, elbo, iwae, tempered
from ppl_vae.inference.optimizers import group
from ppl_vae.inference.options import MethodOptions
from ppl_vae.inference.per_datum import LocalElbo, LocalOptions
from ppl_vae.inference.per_sample import PerSample, PerSampleOptions, per_sample_steps
from ppl_vae.inference.place import Epoch, Place, history_of
from ppl_vae.inference.plateau import Convergence, convergence, convergence_of
from ppl_vae.inference.semi_amortized import SemiAmortizedOptions, semi_amortized_steps
from ppl_vae.inference.table import Table
from ppl_vae.inference.training import Training
from ppl_vae.inference.training_options import TrainingOptions

__all__ = [
    "LAMBDA",
    "METHODS",
    "NUMBER",
    "AmortizedOptions",
    "Bound",
    "Compile",
    "Compiler",
    "Convergence",
    "Epoch",
    "Family",
    "FamilyName",
    "LocalElbo",
    "LocalOptions",
    "LocalSteps",
    "Method",
    "MethodOptions",
    "PerSample",
    "PerSampleOptions",
    "Place",
    "Rows",
    "SemiAmortizedOptions",
    "Step",
    "Table",
    "Training",
    "TrainingOptions",
    "amortized_steps",
    "convergence",
    "convergence_of",
    "derive_encoder",
    "elbo",
    "group",
    "history_of",
    "iwae",
    "make_family",
    "per_sample_steps",
    "proposal",
    "random_latents",
    "refine",
    "semi_amortized_steps",
    "tempered",
]
