"""The entry point of ``python -m ppl_vae.evaluate``."""

import sys

from ppl_vae.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
