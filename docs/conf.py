"""The site: Sphinx, furo and MyST. Run ``make docs``; it needs no network, and a warning is an error.

Every notebook is executed, once for each version of its text (``docs/_build/notebooks`` keeps the results).
"""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]

project = "ppl_vae"
author = copyright = "the authors of ppl_vae"
version = release = PROJECT["version"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "docstrings",
    "mathml",
    "gallery",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
suppress_warnings = ["mystnb.unknown_mime_type"]
language = "en"

html_theme = "furo"
html_title = f"ppl_vae {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["llms.txt"]
html_math_renderer = "mathml"
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#2f6fab", "color-brand-content": "#2f6fab"},
    "dark_css_variables": {"color-brand-primary": "#7fb4e6", "color-brand-content": "#7fb4e6"},
}
pygments_style, pygments_dark_style = "friendly", "github-dark"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

# A notebook is executed in a folder of its own, with the package of this checkout and as many threads as cores.
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "notebooks")
nb_execution_timeout = 3600  # seconds of a cell; it ends what hangs, also on a machine that does other work
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_merge_streams = True
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ.update(TQDM_DISABLE="1", COLUMNS="100", PYTHONWARNINGS="ignore:IProgress")  # that of a terminal will do

copybutton_prompt_text, copybutton_prompt_is_regexp = r">>> |\.\.\. |\$ ", True

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "undoc-members": False}
autosummary_generate = True
napoleon_google_docstring = True
napoleon_use_rtype = False
napoleon_use_ivar = True
