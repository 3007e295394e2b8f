"""The handwritten digits that come with scikit-learn, without a download."""

from __future__ import annotations

import numpy as np

from ppl_vae.data.split import PARTS, split_rows


def load_digits(seed: int) -> tuple[dict[str, dict[str, np.ndarray]], tuple[int, int]]:
    """Load 1797 images of 8 by 8 pixels, in 16 steps of grey scaled to ``[0, 1]``, split 70/10/20 % by the seed.

    Returns:
        For each part x, shape ``(N, 64)``, and y, shape ``(N,)``; and the image shape ``(8, 8)``.

    Reference:
        Alpaydin and Kaynak (1998), Optical recognition of handwritten digits, UCI repository.
    """
    from sklearn import datasets

    x, y = datasets.load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32), y.astype(np.int64)
    rows = split_rows(len(x), (70, 10, 20), seed, "digits")
    return {part: {"x": x[at], "y": y[at]} for part, at in zip(PARTS, rows, strict=True)}, (8, 8)
