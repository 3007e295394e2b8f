r"""Write the training images of static binarised MNIST in grey, so that their bits can be drawn anew in every epoch.

    python benchmarks/grey.py --data-root FOLDER

FOLDER must contain ``static_binarized_mnist.npz``, and MNIST in torchvision's layout. The command writes
``grey_mnist.npz`` there: x_train is grey, and x_valid and x_test are the bits of the static binarisation, to which
published results refer. A fit with ``--binarize dynamic`` draws the bits of x_train in every epoch.

The static binarisation has the images of MNIST in another order, without their numbers. Bits b that were drawn from an
image with grey values p have a far larger likelihood under it,

.. math:: \sum_d b_d \log p_d + (1 - b_d) \log(1 - p_d),

than under other images. Only the 60,000 training images are looked at, so that nothing of the test part is used.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ppl_vae.cli.process  # noqa: F401  (first: it sets up OpenMP)

# isort: split
import numpy as np
import torch

ROWS = 2000
"""The number of images that are compared with all others at once."""


def most_likely(bits: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Return the number of the image under which each row of bits is most likely.

    Args:
        bits: rows of bits, ``(N, D)``.
        images: grey values in the unit interval, ``(M, D)``.

    Example:
        >>> most_likely(np.array([[1, 0], [0, 1], [0, 0]]), np.array([[0.9, 0.1], [0.1, 0.2], [0.3, 0.9]])).tolist()
        [0, 2, 1]
    """
    p = torch.from_numpy(images).float().clamp(1e-3, 1 - 1e-3)
    logits, none_on = torch.logit(p), torch.log1p(-p).sum(1)
    blocks = torch.from_numpy(bits).split(ROWS)
    return torch.cat([(block.float() @ logits.mT + none_on).argmax(1) for block in blocks]).numpy()


def main() -> None:
    from ppl_vae.data.vision import load_vision

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, default=Path(), help="folder of the data (default: .)")
    root = parser.parse_args().data_root
    static = dict(np.load(root / "static_binarized_mnist.npz"))
    parts, _ = load_vision("mnist", root, seed=0)
    images = np.concatenate([parts[part]["x"] for part in ("train", "valid")])
    found = most_likely(static["x_train"], images)
    grey, bits = images[found], static["x_train"] > 0
    path = root / "grey_mnist.npz"
    np.savez_compressed(path, **static | {"x_train": grey})
    contrary = int((bits & (grey == 0)).sum() + (~bits & (grey == 1)).sum())
    print(f"{len(np.unique(found)):,} different images for {len(bits):,} rows of bits, written to {path}")
    new = np.mean(2 * grey * (1 - grey))
    print(f"{contrary} of {bits.size:,} bits contradict their image; another draw changes {new:.1%} of them")


if __name__ == "__main__":
    main()
