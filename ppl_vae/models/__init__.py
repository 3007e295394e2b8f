"""The gallery: one Pyro program a file. ``--model NAME`` is the file's name; the class in it is the program.

| name | program |
|---|---|
| ``vae`` | variational autoencoder, Bernoulli pixels, MLPs |
| ``factor_analysis`` | linear Gaussian with diagonal noise; the evidence is known |
"""
