"""``python -m ppl_vae.report``."""

import sys

from ppl_vae.report import main

if __name__ == "__main__":
    sys.exit(main())
