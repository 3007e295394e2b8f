"""The gallery: one Pyro program per file. ``--model NAME`` takes the name of the file, whose class is the program.

| name | program |
|---|---|
| ``normal`` | one Gaussian, no latents |
| ``mixture`` | Gaussian mixture; the component is summed out, the evidence is exact |
| ``hmm`` | hidden Markov model of sequences; the states are summed out, the evidence is exact |
| ``ppca`` | probabilistic PCA: linear Gaussian with one noise; the evidence is known |
| ``vae`` | variational autoencoder, Bernoulli pixels, MLPs |
| ``factor_analysis`` | linear Gaussian with diagonal noise; the evidence is known |
| ``conv_vae`` | VAE of images, with convolutions |
| ``cvae`` | VAE of data given their labels |
| ``count_vae`` | VAE of counts with an exposure and a batch, negative binomial: genes in cells |
| ``semi_supervised_vae`` | VAE with a class; a few data have a label, and for the others it is summed out |
| ``gmvae`` | VAE with a Gaussian mixture as its prior: clusters |
| ``mixture_prior_vae`` | VAE whose prior is a learned mixture of Gaussians with full covariances |
| ``vamp_vae`` | VAE whose prior is the mixture of the posteriors of learned pseudo-inputs |
| ``conv_hierarchical_vae`` | VAE of images with two layers of latents, convolutions and a VampPrior |
| ``resnet_vae`` | VAE of images with residual convolutions; the prior is normal or a flow |
| ``flow_prior_vae`` | VAE whose prior is a normalizing flow, of coupling or autoregressive maps |
| ``hierarchical_vae`` | VAE with two or more layers of latents; the guide goes bottom-up, or is a ladder |
| ``top_down_vae`` | VAE with two or more layers of latents, on a path of features that model and guide go down |
| ``full_covariance_vae`` | VAE whose posterior has a full covariance |
| ``flow_vae`` | VAE whose posterior is a Gaussian carried through an inverse autoregressive flow |
| ``deep_markov_model`` | sequences: a nonlinear state space of Gaussian latents; the guide reads them from the end |
| ``table_vae`` | VAE of tables: a family for the kind of each column, mixture prior as an option |
| ``not_miwae`` | VAE of data that are missing by their own values, with a model of the missingness |
| ``autoencoder`` | no latent variable: a reconstruction, without an evidence |
"""
