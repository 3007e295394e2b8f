"""A small table whose columns have all kinds, in no order."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

COLUMNS: list[dict[str, Any]] = [
    {"name": "city", "kind": "categorical", "categories": ["Bonn", "Oslo", "Rome"]},
    {"name": "height", "kind": "real", "categories": [], "center": 170.0, "spread": 12.0},
    {"name": "visits", "kind": "count", "categories": [], "center": 1.0, "spread": 0.5},
    {"name": "grade", "kind": "ordinal", "categories": [1, 2, 3, 4, 5]},
    {"name": "income", "kind": "positive", "categories": [], "center": 6.5, "spread": 0.4},
    {"name": "member", "kind": "binary", "categories": []},
    {"name": "mood", "kind": "ordinal", "categories": ["low", "high"]},
]


def mixed_rows(num_rows: int, seed: int = 0) -> Tensor:
    """Return rows of the columns ``COLUMNS``, all of which depend on one hidden number, in double precision."""
    random = np.random.default_rng(seed)
    hidden = random.normal(size=num_rows)
    noisy = hidden[:, None] + random.normal(size=(num_rows, 5)) / 2
    rows = [
        np.digitize(noisy[:, 0], [-0.5, 0.5]),
        170 + 10 * hidden + 6 * random.normal(size=num_rows),
        random.poisson(np.exp(1 + 0.4 * hidden)),
        np.digitize(noisy[:, 1], [-1.0, -0.3, 0.4, 1.2]),
        np.exp(6.5 + 0.4 * noisy[:, 2]),
        noisy[:, 3] > 0,
        noisy[:, 4] > 0.2,
    ]
    return torch.from_numpy(np.stack(rows, 1).astype(np.float64))
