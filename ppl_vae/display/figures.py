"""Figures in notebooks."""

from __future__ import annotations

import sys

from ppl_vae.display.bars import in_notebook


def show_figures_in_notebook() -> None:
    """Let a notebook show figures that do not come from pyplot, as ``%matplotlib inline`` does."""
    if not in_notebook():
        return
    from IPython.core.pylabtools import select_figure_formats
    from matplotlib.figure import Figure

    shell = sys.modules["IPython"].get_ipython()
    if Figure not in shell.display_formatter.formatters["image/png"]:
        select_figure_formats(shell, {"png"})
