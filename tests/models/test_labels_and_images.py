"""Programs with labels, clusters, images or codes, compared with densities written by hand."""

from __future__ import annotations

import math

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ppl_vae.cli.fit import check_layout
from ppl_vae.data import Dataset
from ppl_vae.errors import InputError
from ppl_vae.models.autoencoder import Autoencoder
from ppl_vae.models.conv_vae import ConvVAE
from ppl_vae.models.cvae import CVAE
from ppl_vae.models.gmvae import GMVAE
from ppl_vae.models.semi_supervised_vae import SemiSupervisedVAE
from ppl_vae.models.vae import VAE
from ppl_vae.networks import (
    ClassGaussian,
    ImageDecoder,
    ImageEncoder,
    convolutions,
    join,
    one_hot,
    transposed_convolutions,
)
from ppl_vae.program import BoundProgram, Program, seeded, simulate
from tests.helpers.modules import in_double
from tests.helpers.scenarios import bits, normal

SHAPES = [(1, 28, 28), (1, 8, 8), (1, 9, 31), (3, 8, 8), (3, 15, 16), (2, 7, 30)]


def bound(cls: type[nn.Module], *batch: Tensor, **arguments: object) -> BoundProgram:
    return Program(in_double(cls, **arguments)).bind(batch)


def standard(*values: Tensor) -> Tensor:
    """Return the log density of a standard Gaussian."""
    return sum((dist.Normal(0.0, 1.0).log_prob(value).sum(-1) for value in values), torch.zeros(()))


def bernoulli(logits: Tensor, x: Tensor) -> Tensor:
    return (x * functional.logsigmoid(logits) + (1 - x) * functional.logsigmoid(-logits)).sum(-1)


def split(encoder: nn.Module, seen: Tensor, *sizes: int) -> list[tuple[Tensor, Tensor]]:
    """Return the means and standard deviations of the latents that an encoder returns one after the other."""
    loc, raw = encoder.net(seen).chunk(2, -1)
    scale = functional.softplus(raw) + 1e-4
    return list(zip(loc.split(sizes, -1), scale.split(sizes, -1), strict=True))


class TestImages:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_the_decoder_reverses_the_shapes_of_the_encoder(self, shape: tuple[int, int, int]) -> None:
        down, features = convolutions(shape, channels=4)
        up, same = transposed_convolutions(shape, channels=4)
        assert features == same
        assert up(torch.zeros(5, features)).shape == (5, *shape)
        forth = [(layer.in_channels, layer.out_channels) for layer in down if isinstance(layer, nn.Conv2d)]
        back = [(layer.out_channels, layer.in_channels) for layer in up if isinstance(layer, nn.ConvTranspose2d)]
        assert forth == back[::-1]
        x, image = torch.zeros(1, *shape), torch.zeros(1, features)
        for layer in down[:-1]:
            x = layer(x)
        assert up[0](image).shape == x.shape

    @pytest.mark.parametrize("shape", SHAPES)
    def test_an_image_is_decoded_flat_and_leading_dimensions_are_free(self, shape: tuple[int, int, int]) -> None:
        with seeded(0):
            encoder = ImageEncoder(shape, 5, channels=4, hidden=(6,)).double()
            decoder = ImageDecoder(5, shape, outputs=2, channels=4, hidden=(6,)).double()
        x, z = normal(3, 2, math.prod(shape)), normal(3, 2, 5)
        loc, scale = encoder(x)
        out = decoder(z)
        assert out.shape == (3, 2, 2 * math.prod(shape))
        for k in range(3):
            torch.testing.assert_close(torch.stack([loc[k], scale[k]]), torch.stack(encoder(x[k])))
            torch.testing.assert_close(out[k], decoder(z[k]))
        torch.testing.assert_close(decoder(z[0, 0]), out[0, 0])

    def test_outputs_come_before_channels(self) -> None:
        """A likelihood reads the first outputs of all numbers of a datum, then the second ones."""
        with seeded(0):
            decoder = ImageDecoder(4, (3, 8, 9), outputs=2, channels=4, hidden=()).double()
        last = decoder.convolutions[-1]
        with torch.no_grad():
            last.weight.zero_()
            last.bias.copy_(torch.arange(6))
        expected = torch.arange(6.0).double()[:, None].expand(6, 72).flatten()
        torch.testing.assert_close(decoder(normal(4)), expected)

    @pytest.mark.parametrize(("shape", "given"), [((8, 9), (8, 9)), ((8, 9), (72,)), ((2, 8, 9), (2, 8, 9))])
    def test_data_may_be_flat_or_images(self, shape: tuple[int, ...], given: tuple[int, ...]) -> None:
        x = bits(4, *given)
        program = bound(ConvVAE, x, image_shape=shape, latent_dim=3, channels=2, hidden=(5,))
        decode = program.module.decoder
        with torch.no_grad(), seeded(3):
            weights = program.log_weights((x,), 6)
        with torch.no_grad(), seeded(3):
            z = program.posterior((x,), 6).latents["z"]
            (loc, scale) = program.module.encoder(x.flatten(1))
        flat = x.flatten(1)
        expected = bernoulli(torch.stack([decode(each) for each in z]), flat) + standard(z)
        torch.testing.assert_close(weights, expected - dist.Normal(loc, scale).log_prob(z).sum(-1))
        assert program.structure.draws_by == "plate"
        assert program.prior((x,)).observed["x"].shape == (1, 4, math.prod(shape))

    @pytest.mark.parametrize("shape", [(8,), (1, 2, 8, 8), (0, 8)])
    def test_a_wrong_image_shape_is_reported(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(InputError, match=r"image_shape=.*: expected \(height, width\) or"):
            ConvVAE(image_shape=shape)

    @pytest.mark.parametrize(
        ("shape", "given", "message"),
        [
            ((8, 9, 3), (8, 9, 3), r"image_shape=\(8, 9, 3\) has its channels last.* image_shape=\(3, 8, 9\)"),
            ((3, 8, 9), (8, 9, 3), r"a datum has shape \(8, 9, 3\), and image_shape=\(3, 8, 9\) has as many numbers"),
            ((8, 9), (9, 8), r"a datum has shape \(9, 8\), and image_shape=\(8, 9\) has as many numbers"),
        ],
    )
    def test_an_image_is_never_read_as_another(
        self, shape: tuple[int, ...], given: tuple[int, ...], message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            bound(ConvVAE, bits(4, *given), image_shape=shape, latent_dim=3, channels=2, hidden=(5,))

    def test_vectors_whose_channels_come_last_are_refused_at_the_fit(self) -> None:
        program, part = ConvVAE(image_shape=(3, 8, 9), channels=2, hidden=(5,)), {"x": bits(4, 216).float().numpy()}
        stored = {"x": part["x"].reshape(4, 3, 8, 9)}
        check_layout(program, Dataset("toy", stored, stored, stored, image_shape=(8, 9, 3)))
        check_layout(program, Dataset("toy", part, part, part))
        check_layout(nn.Linear(2, 2), Dataset("toy", part, part, part, image_shape=(8, 9, 3)))
        with pytest.raises(InputError, match=r"channels come last.*: save x with shape \(N, 3, 8, 9\)"):
            check_layout(program, Dataset("toy", part, part, part, image_shape=(8, 9, 3)))

    def test_data_of_another_size_are_reported(self) -> None:
        with pytest.raises(InputError, match=r"a datum has 6 numbers, which are no image of shape \(1, 8, 8\)"):
            bound(ConvVAE, bits(3, 6))


class TestLabels:
    def test_one_hot_of_an_unknown_label_is_zero(self) -> None:
        labels = torch.tensor([[2, 0], [-1, 1]])
        expected = torch.tensor([[[0, 0, 1], [1, 0, 0]], [[0, 0, 0], [0, 1, 0]]]).double()
        torch.testing.assert_close(one_hot(labels, 3, like=expected), expected, rtol=0, atol=0)

    def test_a_label_beyond_the_classes_is_reported(self) -> None:
        with pytest.raises(InputError, match=r"a label is 3, the model has 3 classes.* raise num_classes"):
            bound(CVAE, bits(2, 6), torch.tensor([0, 3]), data_dim=6, num_classes=3)

    def test_parts_are_joined_over_leading_dimensions(self) -> None:
        a, b = normal(4, 1, 1, 2), normal(3, 5, 6)
        joined = join(a, b)
        assert joined.shape == (4, 3, 5, 8)
        torch.testing.assert_close(joined[2, 1, 4], torch.cat([a[2, 0, 0], b[1, 4]]))

    def test_the_gaussian_of_the_class_is_selected(self) -> None:
        with seeded(0):
            network = ClassGaussian(3, input_dim=2, latent_dim=4, hidden=(5,)).double()
        w, c = normal(6, 7, 2), torch.arange(3)[:, None, None]
        loc, scale = network(w, c)
        for k in range(3):
            mu, s = network.net(w)[..., 8 * k : 8 * k + 8].chunk(2, -1)
            torch.testing.assert_close(loc[k], mu)
            torch.testing.assert_close(scale[k], functional.softplus(s) + 1e-2)
            torch.testing.assert_close(
                torch.stack(network(w[0], torch.full((7,), k))), torch.stack([loc, scale])[:, k, 0]
            )


class TestCVAE:
    X, Y = bits(5, 6), torch.tensor([0, 2, 1, -1, 2])

    def test_log_weights_are_those_of_x_given_y(self) -> None:
        program = bound(CVAE, self.X, self.Y, data_dim=6, num_classes=3, latent_dim=2, hidden=(8,))
        with torch.no_grad(), seeded(1):
            weights = program.log_weights((self.X, self.Y), 4)
        with torch.no_grad(), seeded(1):
            z = program.posterior((self.X, self.Y), 4).latents["z"]
            y = torch.tensor([[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 1]]).double()
            ((loc, scale),) = split(program.module.encoder, torch.cat([self.X, y], -1), 2)
            logits = program.module.decoder(torch.cat([z, y.expand(4, 5, 3)], -1))
            expected = standard(z) + bernoulli(logits, self.X) - dist.Normal(loc, scale).log_prob(z).sum(-1)
        torch.testing.assert_close(weights, expected)

    def test_equals_a_vae_if_all_weights_of_the_label_are_zero(self) -> None:
        cvae = bound(CVAE, self.X, self.Y, data_dim=6, num_classes=3, latent_dim=2, hidden=(8,))
        vae = bound(VAE, self.X, data_dim=6, latent_dim=2, hidden=(8,))
        with torch.no_grad():
            for ours, theirs, size in (
                (cvae.module.encoder.net, vae.module.encoder.net, 6),
                (cvae.module.decoder, vae.module.decoder, 2),
            ):
                ours[0].weight[:, size:] = 0
                for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
                    b.copy_(a[:, :size] if a.shape != b.shape else a)
            results = []
            for program, batch in ((cvae, (self.X, self.Y)), (vae, (self.X,))):
                with seeded(2):
                    results.append(program.log_weights(batch, 7))
        torch.testing.assert_close(*results)

    def test_draws_have_the_given_class(self) -> None:
        """This holds for every z if the decoder has learned to copy the label."""
        y = torch.tensor([2, 0, 1, -1])
        batch = (torch.zeros(4, 3).double(), y)
        program = bound(CVAE, *batch, data_dim=3, num_classes=3, latent_dim=2, hidden=())
        with torch.no_grad():
            program.module.decoder[0].weight.copy_(torch.cat([torch.zeros(3, 2), 200 * torch.eye(3)], -1))
            program.module.decoder[0].bias.fill_(-100)
        drawn = program.prior(batch, 6).observed["x"]
        expected = one_hot(y, 3, like=drawn)
        torch.testing.assert_close(drawn, expected.expand(6, 4, 3), rtol=0, atol=0)


def by_class(program: BoundProgram, x: Tensor, num_classes: int, num_samples: int) -> tuple[Tensor, Tensor]:
    """Return log p(x, z, w, c) - log q(z, w | x) of draws from the guide by class, ``(C, K, B)``, and log q."""
    components = program.module.components if hasattr(program.module, "components") else program.module.classes
    batch = (x,) if isinstance(program.module, GMVAE) else (x, torch.full((len(x),), -1))
    draws = program.posterior(batch, num_samples).latents
    z, w = draws["z"], draws["w"]
    sizes = z.shape[-1], w.shape[-1]
    log_q = sum(
        dist.Normal(*of).log_prob(value).sum(-1)
        for of, value in zip(split(program.module.encoder, x, *sizes), (z, w), strict=True)
    )
    terms = []
    for c in range(num_classes):
        loc, raw = components.net(w).unflatten(-1, (num_classes, -1))[..., c, :].chunk(2, -1)
        log_z = dist.Normal(loc, functional.softplus(raw) + 1e-2).log_prob(z).sum(-1)
        terms.append(log_z - math.log(num_classes))
    return torch.stack(terms) + standard(w) + bernoulli(program.module.decoder(z), x) - log_q, log_q


class TestGMVAE:
    def test_clusters_are_summed_out(self) -> None:
        x = bits(5, 6)
        program = bound(
            GMVAE, x, data_dim=6, num_clusters=3, latent_dim=2, style_dim=4, hidden=(8,), component_hidden=(3,)
        )
        with torch.no_grad(), seeded(5):
            weights = program.log_weights((x,), 7)
        with torch.no_grad(), seeded(5):
            terms, _ = by_class(program, x, 3, 7)
        torch.testing.assert_close(weights, terms.logsumexp(0))
        assert program.structure.summed == ("c",)

    def test_draws_of_a_cluster_are_from_its_posterior(self) -> None:
        x = bits(4, 6)
        program = bound(
            GMVAE, x, data_dim=6, num_clusters=3, latent_dim=2, style_dim=1, hidden=(8,), component_hidden=()
        )
        with torch.no_grad(), seeded(6):
            program.module.components.net[0].bias.copy_(torch.arange(12) / 4)
            c = program.posterior((x,), 6000).latents["c"]
        with torch.no_grad(), seeded(6):
            terms, _ = by_class(program, x, 3, 6000)
        expected = terms.softmax(0).mean(1)
        seen = torch.stack([(c == k).double().mean(0) for k in range(3)])
        assert (expected.amax(0) - expected.amin(0)).min() > 0.1
        torch.testing.assert_close(seen, expected, rtol=0, atol=4.5 * 0.5 / 6000**0.5)


class TestSemiSupervisedVAE:
    X, Y = bits(6, 6), torch.tensor([0, -1, 2, -1, 1, -1])

    @pytest.fixture
    def program(self) -> BoundProgram:
        return bound(
            SemiSupervisedVAE,
            self.X,
            self.Y,
            data_dim=6,
            num_classes=3,
            latent_dim=2,
            style_dim=2,
            hidden=(8,),
            class_hidden=(4,),
        )

    def test_evidence_is_that_of_x_and_y_for_a_known_label_and_otherwise_of_x(self, program: BoundProgram) -> None:
        with torch.no_grad(), seeded(5):
            weights = program.log_weights((self.X, self.Y), 7)
        with torch.no_grad(), seeded(5):
            terms, _ = by_class(program, self.X, 3, 7)
        for row, label in enumerate(self.Y.tolist()):
            expected = terms[..., row].logsumexp(0) if label < 0 else terms[label, :, row]
            torch.testing.assert_close(weights[:, row], expected)

    def test_gradient_is_that_of_x_and_y_for_a_known_label_and_otherwise_of_x(self, program: BoundProgram) -> None:
        """Only the known class has a gradient; minus infinity in the sum does not give NaN."""
        parameters = list(program.module.parameters())
        with seeded(5):
            ours = torch.autograd.grad(program.log_weights((self.X, self.Y), 7).sum(), parameters)
        with seeded(5):
            structure = program.structure
            with program.running():
                guide = program.guide_trace((self.X, self.Y), 7)
            z, w = (structure.value(guide.nodes[name], 7) for name in "zw")
        (of_z, of_w), net = split(program.module.encoder, self.X, 2, 2), program.module.classes.net
        terms = []
        for c in range(3):
            loc, raw = net(w).unflatten(-1, (3, -1))[..., c, :].chunk(2, -1)
            log_z = dist.Normal(loc, functional.softplus(raw) + 1e-2).log_prob(z).sum(-1)
            terms.append(log_z - math.log(3) + standard(w) + bernoulli(program.module.decoder(z), self.X))
        every = torch.stack(terms)
        known = every.gather(0, self.Y.clamp(min=0).expand(1, 7, 6))[0]
        log_p = torch.where(self.Y < 0, every.logsumexp(0), known)
        log_q = dist.Normal(*of_z).log_prob(z).sum(-1) + dist.Normal(*of_w).log_prob(w).sum(-1)
        theirs = torch.autograd.grad((log_p - log_q).sum(), parameters)
        torch.testing.assert_close(ours, theirs)

    def test_all_labels_known_and_no_label_known(self, program: BoundProgram) -> None:
        """log p(x) is the sum of p(x, y) over y."""
        with torch.no_grad():
            known = []
            for label in range(3):
                with seeded(5):
                    known.append(program.log_weights((self.X, torch.full((6,), label)), 7))
            with seeded(5):
                unknown = program.log_weights((self.X, torch.full((6,), -1)), 7)
        torch.testing.assert_close(torch.stack(known).logsumexp(0), unknown)

    def test_the_class_is_the_known_label_or_a_draw_from_its_posterior(self, program: BoundProgram) -> None:
        with torch.no_grad(), seeded(6):
            c = program.posterior((self.X, self.Y), 4000).latents["c"]
        with torch.no_grad(), seeded(6):
            terms, _ = by_class(program, self.X, 3, 4000)
        known = self.Y >= 0
        assert (c[:, known] == self.Y[known]).all()
        expected = terms.softmax(0).mean(1)[:, ~known]
        seen = torch.stack([(c[:, ~known] == k).double().mean(0) for k in range(3)])
        torch.testing.assert_close(seen, expected, rtol=0, atol=4.5 * 0.5 / 4000**0.5)

    def test_draws_have_the_label_of_their_class(self, program: BoundProgram) -> None:
        draws = program.prior((self.X, self.Y), 50)
        assert (draws.observed["y"] == draws.latents["c"]).all()
        assert set(draws.latents["c"].unique().tolist()) == {0, 1, 2}

    def test_an_unknown_label_stays_unknown_in_simulated_data(self, program: BoundProgram) -> None:
        simulation = simulate(program, (self.X, self.Y))
        known = self.Y >= 0
        assert (simulation.batch[1][~known] == -1).all()
        assert (simulation.batch[1][known] == simulation.latents["c"][0, known]).all()


class TestAutoencoder:
    def test_its_score_is_the_reconstruction_of_every_draw(self) -> None:
        x = bits(5, 6)
        program = bound(Autoencoder, x, data_dim=6, latent_dim=2, hidden=(8,))
        module = program.module
        expected = bernoulli(module.decoder(module.encoder(x)), x)
        torch.testing.assert_close(program.log_weights((x,), 3), expected.expand(3, 5))

    def test_the_code_is_recorded_with_the_draw_dimension_in_front(self) -> None:
        x = bits(5, 6)
        program = bound(Autoencoder, x, data_dim=6, latent_dim=2, hidden=(8,))
        with program.running():
            trace = program.run(program.model, (x,), 3)
        torch.testing.assert_close(trace.nodes["z"]["value"].expand(3, 5, 2), program.module.encoder(x).expand(3, 5, 2))
