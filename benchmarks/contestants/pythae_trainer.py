"""pythae: its VAE with the same MLPs, trained by ``BaseTrainer.train_step``, which reads a loader once.

The loader has the type and the collate function that the trainer uses; its sampler returns the same rows as for the
other contestants.
"""

from __future__ import annotations

import protocol

# isort: split
import tempfile
import time
from collections.abc import Sequence

import numpy as np
import torch
from protocol import Turn, Work, order
from pythae.data.datasets import BaseDataset, collate_dataset_output
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import Tensor
from torch.utils.data import DataLoader
from torch_steps import mlp


class Encoder(BaseEncoder):
    def __init__(self, layers: Sequence[protocol.Layer]) -> None:
        super().__init__()
        self.net = mlp(layers)

    def forward(self, x: Tensor) -> ModelOutput:
        loc, log_variance = self.net(x).chunk(2, -1)
        return ModelOutput(embedding=loc, log_covariance=log_variance)


class Decoder(BaseDecoder):
    def __init__(self, layers: Sequence[protocol.Layer]) -> None:
        super().__init__()
        self.net = mlp(layers)

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.net(z).sigmoid())


def make(work: Work, x: np.ndarray) -> Turn:
    encoder, decoder = work.layers()
    config = VAEConfig(input_dim=(x.shape[1],), latent_dim=work.latent_dim, reconstruction_loss="bce")
    data = BaseDataset(torch.from_numpy(x), torch.zeros(len(x)))
    trainer = BaseTrainer(
        VAE(config, Encoder(encoder), Decoder(decoder)),
        data,
        training_config=BaseTrainerConfig(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=work.batch_size,
            learning_rate=work.learning_rate,
            no_cuda=True,
        ),
    )
    trainer.prepare_training()

    def turn(seed: int, steps: int) -> tuple[float, float]:
        start = time.perf_counter()
        rows = order(seed, len(data), work.batch_size, steps).ravel().tolist()
        trainer.train_loader = DataLoader(
            data, batch_size=work.batch_size, sampler=rows, collate_fn=collate_dataset_output
        )
        loss = trainer.train_step(seed)
        return time.perf_counter() - start, loss

    return turn


if __name__ == "__main__":
    protocol.serve(make)
