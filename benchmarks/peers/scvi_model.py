"""Train scVI on counts, and write its parameters and its estimates, in the environment of scvi-tools.

python benchmarks/peers/scvi_model.py COUNTS.npz SETTINGS.json RESULT.npz
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import scipy.sparse
import scvi
import torch
from anndata import AnnData
from torch import nn

PER_PASS = 50


def folded(block: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """Return weight and bias of a linear layer and the batch normalisation after it, as they are in evaluation."""
    linear = next(layer for layer in block if isinstance(layer, nn.Linear))
    norm = next((layer for layer in block if isinstance(layer, nn.BatchNorm1d)), None)
    weight, bias = linear.weight, linear.bias
    if norm is not None:
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        weight, bias = weight * factor[:, None], (bias - norm.running_mean) * factor + norm.bias
    return weight.detach().numpy(), bias.detach().numpy()


def parameters(module: nn.Module, inflated: bool) -> dict[str, np.ndarray]:
    """Return the parameters of the decoder and of the encoder, layer by layer."""
    decoder, encoder = module.decoder, module.z_encoder
    layers = {
        "hidden": folded(decoder.px_decoder.fc_layers[0]),
        "share": folded([decoder.px_scale_decoder[0]]),
        "encoder": folded(encoder.encoder.fc_layers[0]),
        "mean": folded([encoder.mean_encoder]),
        "variance": folded([encoder.var_encoder]),
    }
    if inflated:
        layers["gate"] = folded([decoder.px_dropout_decoder])
    weights = {f"{name}.weight": weight for name, (weight, _) in layers.items()}
    biases = {f"{name}.bias": bias for name, (_, bias) in layers.items()}
    return {**weights, **biases, "log_shape": module.px_r.detach().numpy()}


@torch.no_grad()
def at_latents(model: scvi.model.SCVI, cells: AnnData, num_draws: int) -> dict[str, np.ndarray]:
    """Return draws of the encoder, ``(K, N, L)``, and scVI's own log weight of each, ``(K, N)``."""
    module, z, log_weight = model.module, [], []
    tensors = next(iter(model._make_data_loader(adata=cells, batch_size=cells.n_obs, shuffle=False)))
    for _ in range(num_draws):
        drawn = module.inference(**module._get_inference_input(tensors))
        decoded = module.generative(**module._get_generative_input(tensors, drawn))
        joint = decoded["px"].log_prob(tensors["X"]).sum(-1) + decoded["pz"].log_prob(drawn["z"]).sum(-1)
        z.append(drawn["z"].numpy())
        log_weight.append((joint - drawn["qz"].log_prob(drawn["z"]).sum(-1)).numpy())
    return {"z": np.stack(z), "log_weight": np.stack(log_weight)}


def main() -> None:
    counts, settings, result = sys.argv[1:]
    data, options = np.load(counts), json.loads(Path(settings).read_text())
    warnings.simplefilter("ignore")
    scvi.settings.seed = 0
    scvi.settings.verbosity = 40
    torch.set_num_threads(options["threads"])
    cells = {
        part: AnnData(scipy.sparse.csr_matrix(data[f"x_{part}"]), {"batch": data[f"batch_{part}"].astype(str)})
        for part in ("train", "test")
    }
    scvi.model.SCVI.setup_anndata(cells["train"], batch_key="batch")
    inflated = options["likelihood"].startswith("zero")
    model = scvi.model.SCVI(cells["train"], gene_likelihood="zinb" if inflated else "nb")
    started = time.perf_counter()
    model.train(
        max_epochs=options["epochs"],
        train_size=1.0,
        batch_size=options["batch_size"],
        accelerator="cpu",
        enable_progress_bar=False,
        logger=False,
        plan_kwargs={"n_epochs_kl_warmup": options["warmup"], "lr": options["learning_rate"]},
    )
    seconds = time.perf_counter() - started
    model.module.eval()
    estimates = [
        model.get_marginal_ll(
            cells["test"], n_mc_samples=options["draws"], return_mean=False, n_mc_samples_per_pass=PER_PASS
        )
        for _ in range(options["repetitions"])
    ]
    np.savez(
        result,
        **parameters(model.module, inflated),
        **at_latents(model, cells["test"], options["given_draws"]),
        log_evidence=np.stack([np.asarray(estimate, np.float64).ravel() for estimate in estimates]),
        elbo=float(model.get_elbo(cells["test"])),
        seconds=seconds,
        version=version("scvi-tools"),
    )


if __name__ == "__main__":
    main()
