"""The entry point of ``python -m ppl_vae.gap``."""

import sys

from ppl_vae.cli import main

if __name__ == "__main__":
    sys.exit(main(["gap", *sys.argv[1:]]))
