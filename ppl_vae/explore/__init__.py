"""The explorer of a latent space: a page in which a point is dragged and seen decoded, served locally or as a file.

Its heart is ``ExploredSpace.decode``, from points of the latent space to the arrays that the program decodes.
``ExploredSpace`` knows no page, ``views`` no server, and the page no program.
"""

from __future__ import annotations

from ppl_vae.explore.page import Explorer, write_page
from ppl_vae.explore.space import Decoded, ExploredSpace, Neighbourhood
from ppl_vae.explore.views import Views

__all__ = ["Decoded", "ExploredSpace", "Explorer", "Neighbourhood", "Views", "write_page"]
