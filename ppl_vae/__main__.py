"""``python -m ppl_vae`` and ``ppl-vae``: the verbs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

VERBS = {
    "fit": "fit a program to data and write a run folder",
    "evaluate": "repeat the test figures of a run, or make others",
    "gap": "tell what amortization costs, and what the posterior's family does",
    "compare": "put runs on the same data side by side, with paired errors",
    "generate": "draw new data, under conditions if the program has them",
    "reconstruct": "put data beside what the program makes of them",
    "interpolate": "go from one datum to another through the latent space",
    "traverse": "move one latent dimension at a time",
    "manifold": "decode a plane of the latent space",
    "latents": "show where data are in the latent space",
    "embed": "write posterior means and standard deviations to a file",
    "impute": "fill in what is missing in data",
    "augment": "draw new labelled data near given ones",
    "outliers": "list the data that the program finds least likely",
    "report": "write one page about a run: program, training, quality, figures",
}


def main(args: Sequence[str] | None = None) -> int:
    """Run the verb that the first argument names, or list them."""
    verb, *rest = (sys.argv[1:] if args is None else args) or ["--help"]
    if verb in VERBS:
        return importlib.import_module(f"ppl_vae.cli.{verb}" if verb != "report" else "ppl_vae.report").main(rest)
    if verb in ("-h", "--help"):
        print("usage: ppl-vae VERB [options]          (the same as python -m ppl_vae.VERB)\n")
        print("\n".join(f"  {name:<12} {what}" for name, what in VERBS.items()))
        print("\nppl-vae VERB --help tells the options.")
        return 0
    from ppl_vae.errors import nearest

    print(f"error: unknown verb {verb!r}; {nearest(verb, VERBS)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
