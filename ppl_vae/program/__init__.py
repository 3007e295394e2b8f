"""Programs, bound to data and varied: the only room that knows Pyro's handlers and its parameter store."""

from ppl_vae.program.annealing import AnnealingPath, annealing_path
from ppl_vae.program.bound import BoundProgram, Draws, WeightedDraws
from ppl_vae.program.check import check, check_batch, check_model, check_parts
from ppl_vae.program.codes import with_code
from ppl_vae.program.coordinates import Coordinates, LatentPoint, names_of
from ppl_vae.program.derived_guide import DerivedGuide, with_encoder, with_lambda, without_guide
from ppl_vae.program.divergence import (
    Divergence,
    ElboTerms,
    ObjectiveTerms,
    elbo_terms,
    objective_terms,
    observed_numbers,
    observes_discrete,
)
from ppl_vae.program.draws import averages, with_modes
from ppl_vae.program.encoders import encoder_parameters, with_encoder_noise
from ppl_vae.program.factor_term import FactorTerm
from ppl_vae.program.filtering import ChainSteps, chain_length, chain_steps, check_chain_steps
from ppl_vae.program.gaussians import gaussian_posteriors, gaussian_priors
from ppl_vae.program.global_posterior import SharedDraws
from ppl_vae.program.latent_space import LatentSpace, Start
from ppl_vae.program.missing import with_missing, without_missing
from ppl_vae.program.observations import FixedSupport, are_within, check_observations, fixed_supports
from ppl_vae.program.padding import weighs_alike
from ppl_vae.program.path_draws import PathDraws, check_density_repeats, path_draws
from ppl_vae.program.predictions import (
    LatentMoments,
    classes_of,
    coded_columns,
    draw_latents,
    draw_prior,
    draw_shared,
    has_exact_moments,
    indicators,
    marginals,
    posterior_given,
    posterior_moments,
    predict,
)
from ppl_vae.program.process import MatmulPrecision, Precision, fp32_products, seeded
from ppl_vae.program.program import Program
from ppl_vae.program.proposal import widened
from ppl_vae.program.quantities import LatentQuantities, latent_quantities, log_likelihoods, observed_values
from ppl_vae.program.runner import Batch
from ppl_vae.program.simulation import Simulation, generates, has_totals, observed_arguments, placed, simulate

__all__ = [
    "AnnealingPath",
    "Batch",
    "BoundProgram",
    "ChainSteps",
    "Coordinates",
    "DerivedGuide",
    "Divergence",
    "Draws",
    "ElboTerms",
    "FactorTerm",
    "FixedSupport",
    "LatentMoments",
    "LatentPoint",
    "LatentQuantities",
    "LatentSpace",
    "MatmulPrecision",
    "ObjectiveTerms",
    "PathDraws",
    "Precision",
    "Program",
    "SharedDraws",
    "Simulation",
    "Start",
    "WeightedDraws",
    "annealing_path",
    "are_within",
    "averages",
    "chain_length",
    "chain_steps",
    "check",
    "check_batch",
    "check_chain_steps",
    "check_density_repeats",
    "check_model",
    "check_observations",
    "check_parts",
    "classes_of",
    "coded_columns",
    "draw_latents",
    "draw_prior",
    "draw_shared",
    "elbo_terms",
    "encoder_parameters",
    "fixed_supports",
    "fp32_products",
    "gaussian_posteriors",
    "gaussian_priors",
    "generates",
    "has_exact_moments",
    "has_totals",
    "indicators",
    "latent_quantities",
    "log_likelihoods",
    "marginals",
    "names_of",
    "objective_terms",
    "observed_arguments",
    "observed_numbers",
    "observed_values",
    "observes_discrete",
    "path_draws",
    "placed",
    "posterior_given",
    "posterior_moments",
    "predict",
    "seeded",
    "simulate",
    "weighs_alike",
    "widened",
    "with_code",
    "with_encoder",
    "with_encoder_noise",
    "with_lambda",
    "with_missing",
    "with_modes",
    "without_guide",
    "without_missing",
]
