"""The section of a report about checks."""

from __future__ import annotations

import numpy as np

from ppl_vae import VariationalInference
from ppl_vae.check import CheckSettings, check_fit
from ppl_vae.check.page import page_of
from ppl_vae.models.normal import Normal
from ppl_vae.report.content import _checked
from ppl_vae.runs.files import finite


def test_a_page_is_read_again_from_its_numbers() -> None:
    x = np.random.default_rng(0).normal(size=(40, 2)).astype("float32")
    vi = VariationalInference(Normal(data_dim=2), max_epochs=2, compile="off").fit(x)
    page = check_fit(vi.fitted, (x,), settings=CheckSettings(num_data=10), only=["training", "lambdas"])
    again = page_of(finite(page.numbers()))
    assert again.text() == page.text()
    content = _checked(finite(page.numbers()))
    assert [line.partition(",")[0] for line in content["unknown"]] == [name for name, _ in page.unknown]
    assert len(content["failures"]) == len(page.failures)
