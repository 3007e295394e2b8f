"""What all tests share of pytest's configuration; helpers are in ``tests/helpers``."""

import os

import pytest

os.environ["COLUMNS"] = "200"  # tables are whole, whatever the terminal


def pytest_configure(config: pytest.Config) -> None:
    """PyTorch's compiler uses what PyTorch itself deprecates."""
    config.addinivalue_line("filterwarnings", "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
    config.addinivalue_line("filterwarnings", "ignore:`torch._prims_common.check` is deprecated:FutureWarning")
