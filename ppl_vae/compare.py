"""The entry point of ``python -m ppl_vae.compare``."""

import sys

from ppl_vae.cli import main

if __name__ == "__main__":
    sys.exit(main(["compare", *sys.argv[1:]]))
