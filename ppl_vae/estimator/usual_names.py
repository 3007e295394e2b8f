"""The names that options have elsewhere, for hints in messages about unknown options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ppl_vae.errors import nearest

MEANT: Mapping[str, str] = {
    "--learning-rate": "lr rate step_size eta base_lr init_lr",
    "--max-epochs": "epochs epoch num_epochs n_epochs nb_epochs num_train_epochs n_iter max_iter",
    "--max-steps": "steps num_steps n_steps iterations num_iterations svi_steps train_steps",
    "--batch-size": (
        "batch bs minibatch_size mini_batch_size train_batch_size subsample_size per_device_train_batch_size "
        "per_device_eval_batch_size batchsize"
    ),
    "--accelerator cuda": "gpu gpus cuda use_gpu use_cuda no_cuda",
    "--accelerator cpu": "cpu no_gpu use_cpu",
    "--accelerator": "device backend platform",
    "--processes": "devices num_processes nproc nproc_per_node world_size num_devices process",
    "--num-particles": "particles k iwae_k n_particles num_importance_samples number_samples",
    "--num-samples": "samples n_samples n_mc_samples num_draws draws",
    "--kl-weight": "beta kl_beta kld_weight kl_coefficient min_kl_weight max_kl_weight",
    "--kl-warmup-epochs": "warmup kl_anneal kl_annealing n_epochs_kl_warmup kl_warmup annealing_epochs",
    "--clip-norm": "gradient_clip_val grad_clip clip_grad clip_grad_norm max_grad_norm clip",
    "--patience": "early_stopping early_stopping_patience early_stop no_improve_epochs",
    "--validate-every": "check_val_every_n_epoch val_check_interval eval_every steps_predict val_every",
    "--checkpoint-every": "steps_saving save_every save_steps every_n_epochs checkpoint_interval",
    "--optimizer": "optim optimiser solver optimizer_name",
    "--weight-decay": "wd l2 weight_regularization optimizer_weight_decay",
    "--warmup-steps": "lr_warmup lr_warmup_steps num_warmup_steps linear_warmup",
    "--accumulate": "accumulate_grad_batches gradient_accumulation_steps grad_accum accumulation",
    "--schedule": "scheduler scheduler_cls lr_scheduler lr_schedule",
    "--seed": "rng_seed random_state rng_key random_seed prng_seed manual_seed",
    "--output": "output_dir out out_dir logdir log_dir default_root_dir save_dir run_dir o",
    "--resume": "checkpoint ckpt ckpt_path resume_from_checkpoint continue restart",
    "--data": "dataset data_path train_data input file adata",
    "--model.latent_dim": "latent_dim n_latent z_dim latent_size latent num_latents zdim",
    "--model.hidden": "n_hidden n_layers hidden_dim hidden_dims hidden hidden_size num_hidden",
    "--model.likelihood": "likelihood gene_likelihood reconstruction_loss obs_distribution",
    "--model": "model_name arch architecture program",
    "--guide": "method inference autoguide algorithm",
    "--bound": "loss objective elbo criterion",
    "--precision": "amp fp16 bf16 dtype mixed_precision half",
    "--compile": "jit jit_compile torch_compile compile_model",
    "--ema-decay": "ema polyak swa",
    "--num-valid": "limit_val_batches num_val n_valid",
    "--num-data": "limit_test_batches num_test n_test",
    "--extra-missing": "missing mask_rate dropout_input",
    "--standardize": "normalize normalise standardise scale",
}
"""What is meant by the names that pythae, Lightning, NumPyro, scvi-tools and others use."""
HINTS = {name: option for option, names in MEANT.items() for name in names.split()}


def hint(name: str) -> str | None:
    """Return the option that is meant by a name from elsewhere, as it is written on the command line; None if unknown.

    Example:
        >>> hint("lr"), hint("per_device_train_batch_size"), hint("colour")
        ('--learning-rate', '--batch-size', None)
    """
    return HINTS.get(name.lower().replace("-", "_"))


def describe_unknown(name: str, known: Iterable[str]) -> str:
    """Return a message about a keyword that is no option in Python, with the one that is meant.

    Args:
        name: the keyword.
        known: the options.

    Example:
        >>> describe_unknown("lr", ["learning_rate"]), describe_unknown("gpu", ["accelerator"])
        ("unknown option 'lr': it is learning_rate here", "unknown option 'gpu': it is accelerator='cuda' here")
        >>> describe_unknown("latent_dim", [])
        "unknown option 'latent_dim': it is an argument of the program"
        >>> describe_unknown("bach_size", ["batch_size"])
        "unknown option 'bach_size'; did you mean 'batch_size'? (known: batch_size)"
    """
    key, _, value = (hint(name) or "").removeprefix("--").partition(" ")
    if key.startswith("model."):
        return f"unknown option {name!r}: it is an argument of the program"
    key, names = key.replace("-", "_"), list(known)
    if key in names:
        return f"unknown option {name!r}: it is {f'{key}={value!r}' if value else key} here"
    return f"unknown option {name!r}; {nearest(name, names)}"
