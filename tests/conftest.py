"""What all tests share of pytest's configuration; helpers are in ``tests/helpers``."""

import gc
import os
import sys
from collections.abc import Generator

import pytest

os.environ["COLUMNS"] = "200"  # tables are whole, whatever the terminal

# Bytecode is kept, whatever the environment says; otherwise every process, and there are dozens, compiles anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_configure(config: pytest.Config) -> None:
    """PyTorch's compiler uses what PyTorch itself deprecates."""
    config.addinivalue_line("filterwarnings", "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
    config.addinivalue_line("filterwarnings", "ignore:`torch._prims_common.check` is deprecated:FutureWarning")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage in what is imported and collected, neither now nor later: it stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
