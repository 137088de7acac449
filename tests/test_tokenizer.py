"""The tokenizer: whatever the hierarchy, encode, decode, update and the fingerprint keep the same rules."""

import pytest
import torch
from torch import Tensor
from toy_components import (
    NoiseDataset,
    Nothing,
    ResidualQuantizer,
    SoundDecoder,
    SoundEncoder,
    TwoMapDecoder,
    TwoMapEncoder,
)

from dvgen.contracts.autoencoder_subject import AutoencoderSubject
from dvgen.discovery import discover
from dvgen.errors import ConfigError, ShapeError
from dvgen.experiment import Experiment, experiment_from
from dvgen.interfaces.codes import MASKED, Codes
from dvgen.interfaces.quantizer import Quantizer
from dvgen.registry import Registry
from dvgen.tokenizer import Tokenizer, assemble_tokenizer, fingerprint
from dvgen_ema.quantizer import EMAQuantizer

NAMES = ["vq", "ema", "gumbel", "two-maps", "residual", "sound"]
IMAGES, SOUND = (3, 8, 8), (1, 16)


def experiment_of(quantizer: str | list[str]) -> Experiment:
    """A tiny flat experiment with these quantizers."""
    small = {"channels": 4, "residual_channels": 2, "residual_blocks": 1, "downsample": 2}
    names = [quantizer] if isinstance(quantizer, str) else quantizer
    return experiment_from(
        {
            "encoder": {"use": "vqvae", **small},
            "decoder": {"use": "vqvae", **small},
            "quantizer": [{"use": name, "num_codes": 4, "dim": 3} for name in names],
        }
    )


def ema() -> EMAQuantizer:
    return EMAQuantizer(EMAQuantizer.Config(num_codes=4, dim=3))


def composed(quantizers: list[Quantizer]) -> Tokenizer:
    """Two maps, with these quantizers."""
    dims = (3, 3)
    encoder, decoder = (cls(Nothing.Config(), channels=3, dims=dims) for cls in (TwoMapEncoder, TwoMapDecoder))
    return Tokenizer(encoder, quantizers, decoder, shape=IMAGES)


def make(registry: Registry, name: str) -> Tokenizer:
    """One of the toys, its codebooks set from data."""
    torch.manual_seed(3)
    if name == "two-maps":
        tokenizer = composed([ema(), ema()])
    elif name == "sound":
        encoder, decoder = (cls(Nothing.Config(), channels=1, dims=(3,)) for cls in (SoundEncoder, SoundDecoder))
        tokenizer = Tokenizer(encoder, [ema()], decoder, shape=SOUND)
    elif name == "residual":
        flat = assemble_tokenizer(registry, experiment_of("ema"), IMAGES)
        tokenizer = Tokenizer(flat.encoder, [ResidualQuantizer(ResidualQuantizer.Config())], flat.decoder, shape=IMAGES)
    else:
        tokenizer = assemble_tokenizer(registry, experiment_of(name), IMAGES)
    tokenizer.initialise(signals(tokenizer))
    return tokenizer


def signals(tokenizer: Tokenizer, n: int = 6) -> Tensor:
    """Random signals of the tokenizer's shape."""
    return NoiseDataset(n, tokenizer.shape).signals(range(n))


@pytest.fixture(params=NAMES)
def tokenizer(request: pytest.FixtureRequest, registry: Registry) -> Tokenizer:
    return make(registry, request.param).eval()


def test_levels_are_named_after_their_map_and_their_place_in_it(registry: Registry) -> None:
    found = {name: [(level.name, level.grid) for level in make(registry, name).levels] for name in NAMES}
    flat = [("codes", (4, 4))]
    assert found == {
        "vq": flat,
        "ema": flat,
        "gumbel": flat,
        "two-maps": [("top", (2, 2)), ("bottom", (4, 4))],
        "residual": [("first", (4, 4)), ("second", (4, 4))],
        "sound": [("codes", (4,))],
    }


def test_a_map_with_several_levels_beside_another_map_keeps_both_names() -> None:
    tokenizer = composed([ema(), ResidualQuantizer(ResidualQuantizer.Config())])
    assert [level.name for level in tokenizer.levels] == ["top", "bottom-first", "bottom-second"]
    codes = tokenizer.eval().encode(signals(tokenizer))
    assert [code.shape[1:] for code in codes] == [(2, 2), (4, 4), (4, 4)]
    assert torch.equal(tokenizer.decode(codes), tokenizer(signals(tokenizer)).reconstructed)


def test_encode_gives_the_codes_of_forward_and_decode_its_reconstruction_bit_for_bit(tokenizer: Tokenizer) -> None:
    images = signals(tokenizer)
    result, codes = tokenizer(images), tokenizer.encode(images)
    assert all(torch.equal(one, other) for one, other in zip(result.codes, codes, strict=True))
    assert torch.equal(tokenizer.decode(codes), result.reconstructed)
    assert result.reconstructed.shape == images.shape
    assert any(len(code.unique()) > 1 for code in codes), "a constant code would make this test empty"


def test_encode_and_decode_change_nothing_and_need_no_gradient(tokenizer: Tokenizer) -> None:
    before = fingerprint(tokenizer, {})
    state = torch.get_rng_state()
    decoded = tokenizer.decode(tokenizer.encode(signals(tokenizer)))
    assert not decoded.requires_grad
    assert fingerprint(tokenizer, {}) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_the_finer_map_depends_on_the_quantized_coarser_vectors(registry: Registry) -> None:
    tokenizer = make(registry, "two-maps").eval()
    images = signals(tokenizer)
    features = tokenizer.encoder(images)
    coarse = tokenizer(images).codes[:1]
    shown = tokenizer.quantizers[0].decode(coarse)
    other = tokenizer.quantizers[0].decode(((coarse[0] + 1) % 4,))
    condition = tokenizer.encoder.condition
    assert not torch.equal(condition(1, features, (shown,)), condition(1, features, (other,)))
    # and the tokenizer hands over the quantized vectors, not the features
    expected = tokenizer.quantizers[1].encode(condition(1, features, (shown,)))
    assert torch.equal(tokenizer.encode(images)[1], expected[0])
    assert torch.equal(tokenizer(images).codes[1], expected[0])


def test_losses_stats_and_pending_carry_the_name_of_their_map(registry: Registry) -> None:
    two = make(registry, "two-maps")
    result = two(signals(two))
    assert set(result.losses) == {"top.commitment", "bottom.commitment"}
    for part in (result.stats, result.pending):
        assert {key.split(".")[0] for key in part} == {"top", "bottom"}
    flat = make(registry, "ema")
    assert set(flat(signals(flat)).losses) == {"commitment"}
    residual = make(registry, "residual")
    assert set(residual(signals(residual)).losses) == {"first.commitment", "second.commitment"}


@pytest.mark.parametrize("name", ["top", "bottom"])
def test_update_routes_statistics_to_the_quantizer_they_came_from(registry: Registry, name: str) -> None:
    """The pending of one map moves its own codebook exactly as the quantizer alone would, and with none the other's."""
    tokenizer = make(registry, "two-maps")
    pending = tokenizer(signals(tokenizer)).pending
    place = ["top", "bottom"].index(name)
    alone = ema()
    alone.load_state_dict(tokenizer.quantizers[place].state_dict())
    alone.update({key.removeprefix(f"{name}."): value for key, value in pending.items() if key.startswith(name)})
    before = tokenizer.quantizers[place].codebook.clone()
    tokenizer.update(pending)
    assert torch.equal(tokenizer.quantizers[place].codebook, alone.codebook)
    assert not torch.equal(tokenizer.quantizers[place].codebook, before)


def test_initialise_sets_codebooks_coarse_first(registry: Registry) -> None:
    """The finer codebook is made of features conditioned on the coarser codebook as initialised, not as it was before."""
    tokenizer = make(registry, "two-maps").eval()
    images = signals(tokenizer)
    features = tokenizer.encoder(images)
    shown = tokenizer.quantizers[0].decode(tokenizer.encode(images)[:1])
    seen = (features[0], tokenizer.encoder.condition(1, features, (shown,)))
    for quantizer, z in zip(tokenizer.quantizers, seen, strict=True):
        codes = quantizer.encode(z)[0]
        rows = z.movedim(1, -1)
        means = torch.stack([rows[codes == code].mean(dim=0) for code in range(len(quantizer.codebook))])
        # Lloyd's algorithm has ended, or nearly: each code stands on the mean of the features that choose it
        spread = (rows - rows.mean(dim=(0, 1, 2))).square().mean().sqrt()
        assert (means - quantizer.codebook).norm() < 0.2 * spread


def test_schedule_reaches_every_quantizer(registry: Registry) -> None:
    tokenizer = make(registry, "gumbel")
    before = tokenizer.quantizers[0].temperature.clone()
    tokenizer.schedule(250)
    assert tokenizer.quantizers[0].temperature < before


def test_the_fingerprint_changes_with_any_weight_any_buffer_and_the_config_and_only_then(tokenizer: Tokenizer) -> None:
    first = fingerprint(tokenizer, {"a": 1})
    assert fingerprint(tokenizer, {"a": 1}) == first
    seen = {first, fingerprint(tokenizer, {"a": 2})}
    for name, tensor in tokenizer.state_dict().items():
        kept = tensor.clone()
        flat = tensor.view(-1)
        flat[-1] = torch.nextafter(flat[-1], torch.tensor(9e9)) if flat.is_floating_point() else flat[-1] + 1
        changed = fingerprint(tokenizer, {"a": 1})
        assert changed not in seen, name
        seen.add(changed)
        tensor.copy_(kept)
    tokenizer(signals(tokenizer))
    for parameter in tokenizer.parameters():
        parameter.grad = torch.ones_like(parameter)
    assert fingerprint(tokenizer.train(), {"a": 1}) == first


def _damaged(codes: Codes) -> dict[str, Codes]:
    first = codes[0]
    return {
        "too few levels": codes[1:],
        "too many levels": (*codes, first),
        "a grid of no size": (torch.cat([first, first], dim=1)[:, :, None], *codes[1:]),
        "no place": (*codes[:-1], codes[-1][:, :0]),
        "another type": (first.int(), *codes[1:]),
        "too large": (torch.full_like(first, 4), *codes[1:]),
        "below -1": (torch.full_like(first, -2), *codes[1:]),
    }


@pytest.mark.parametrize(
    "damage",
    ["too few levels", "too many levels", "a grid of no size", "no place", "another type", "too large", "below -1"],
)
def test_decode_refuses_codes_that_are_not_its_own(tokenizer: Tokenizer, damage: str) -> None:
    codes = tokenizer.encode(signals(tokenizer))
    with pytest.raises(ShapeError):
        tokenizer.decode(_damaged(codes)[damage])


def test_one_quantizer_section_is_made_anew_for_every_map(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Registry.load

    def toys(self: Registry, kind: str, name: str) -> object:
        toy = {"encoder": TwoMapEncoder, "decoder": TwoMapDecoder}.get(kind)
        return toy if toy and name == "toy" else load(self, kind, name)

    monkeypatch.setattr(Registry, "load", toys)
    table = {"encoder": {"use": "toy"}, "decoder": {"use": "toy"}, "quantizer": {"use": "ema", "num_codes": 4, "dim": 3}}
    tokenizer = assemble_tokenizer(registry, experiment_from(table), IMAGES)
    assert len(tokenizer.quantizers) == 2
    assert not torch.equal(tokenizer.quantizers[0].codebook, tokenizer.quantizers[1].codebook)


@pytest.mark.parametrize("count", [2, 3])
def test_another_number_of_quantizers_than_maps_is_a_config_error(registry: Registry, count: int) -> None:
    with pytest.raises(ConfigError, match="quantizer"):
        assemble_tokenizer(registry, experiment_of(["ema"] * count), IMAGES)
    with pytest.raises(ConfigError, match="makes 2 maps, so it takes 2 quantizers, not 1"):
        composed([ema()])


def test_the_fingerprint_tells_types_and_shapes_of_equal_bytes_apart(registry: Registry) -> None:
    tokenizer = make(registry, "ema")
    quantizer = tokenizer.quantizers[0]
    seen = {fingerprint(tokenizer, {})}
    counts = quantizer.counts.clone()
    for other in (counts.view(torch.int32), counts.reshape(2, 2)):
        quantizer.counts = other
        seen.add(fingerprint(tokenizer, {}))
    assert len(seen) == 3


SIZES = {"double": (2, 1), "half as large again": (3, 2)}
"""Factors, numerator and denominator, of sizes that are not the trained one."""


def grown(shape: tuple[int, ...], factor: tuple[int, int]) -> tuple[int, ...]:
    """The shape of larger signals; only the last side is larger where there are two, by a factor of its own."""
    return (*shape[:-1], shape[-1] * factor[0] // factor[1])


def larger_signals(tokenizer: Tokenizer, factor: tuple[int, int]) -> Tensor:
    return NoiseDataset(3, grown(tokenizer.shape, factor)).signals(range(3))


@pytest.mark.parametrize("factor", SIZES.values(), ids=SIZES)
def test_signals_of_another_size_become_codes_of_its_levels_and_come_back(
    tokenizer: Tokenizer, factor: tuple[int, int]
) -> None:
    """Every law of the trained size holds: names, grids, encode as forward, decode as its reconstruction, masked codes."""
    images = larger_signals(tokenizer, factor)
    levels = tokenizer.levels_at(tuple(images.shape[2:]))
    assert [level.name for level in levels] == [level.name for level in tokenizer.levels]
    assert [level.num_codes for level in levels] == [level.num_codes for level in tokenizer.levels]
    codes, passed = tokenizer.encode(images), tokenizer(images)
    assert [tuple(code.shape[1:]) for code in codes] == [level.grid for level in levels]
    assert levels[-1].grid[-1] * factor[1] == tokenizer.levels[-1].grid[-1] * factor[0]
    assert all(torch.equal(one, other) for one, other in zip(passed.codes, codes, strict=True))
    assert passed.reconstructed.shape == images.shape
    assert torch.equal(tokenizer.decode(codes), passed.reconstructed)
    masked = (codes[0].masked_fill(torch.rand(codes[0].shape) < 0.5, MASKED), *codes[1:])
    assert tokenizer.decode(masked).shape == images.shape
    assert tokenizer.levels == tokenizer.levels_at(tokenizer.shape[1:])


@pytest.mark.parametrize("name", ["two-maps", "residual"])
def test_decode_refuses_levels_of_different_sizes(registry: Registry, name: str) -> None:
    """Of two sizes, and of none: grids that no signals have together, whichever of the levels is at fault."""
    tokenizer = make(registry, name).eval()
    trained, larger = tokenizer.encode(signals(tokenizer, 3)), tokenizer.encode(larger_signals(tokenizer, (2, 1)))
    for mixed in ((trained[0], larger[1]), (larger[0], trained[1]), (larger[0], larger[1][..., :-1])):
        with pytest.raises(ShapeError):
            tokenizer.decode(mixed)
    with pytest.raises(ShapeError):
        tokenizer.decode((larger[0], larger[1] + 4))


def test_decode_says_which_sizes_the_encoder_takes(registry: Registry) -> None:
    """VQ-VAE-2: an odd bottom grid has no top grid."""
    torch.manual_seed(0)
    small = {"channels": 4, "residual_channels": 2, "residual_blocks": 1, "downsample": 2}
    table = {
        "encoder": {"use": "vqvae2", **small},
        "decoder": {"use": "vqvae2", **small},
        "quantizer": {"use": "ema", "num_codes": 4, "dim": 3},
    }
    tokenizer = assemble_tokenizer(registry, experiment_from(table), IMAGES).eval()
    bottom = torch.zeros(1, 5, 4, dtype=torch.int64)
    with pytest.raises(ShapeError, match=r"grid .5, 4. belong to no signals .* size 10x8"):
        tokenizer.decode((bottom[:, :2, :2], bottom))


PAIRS = sorted(set(discover().registry.names("encoder")) & set(discover().registry.names("decoder")))


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("factor", SIZES.values(), ids=SIZES)
def test_every_registered_encoder_and_decoder_takes_other_sizes(registry: Registry, name: str, factor: tuple[int, int]) -> None:
    """Attention and whatever else was trained at one size: encoded, quantized and decoded at another."""
    torch.manual_seed(0)
    kinds = [registry.load(kind, name) for kind in ("encoder", "decoder")]
    subject = AutoencoderSubject(*kinds)
    for shape in subject.shapes:
        encoder, decoder = (cls(cls.tiny(), channels=shape[0], dims=subject.dims) for cls in kinds)
        quantizers = [EMAQuantizer(EMAQuantizer.Config(num_codes=4, dim=dim)) for dim in subject.dims]
        tokenizer = Tokenizer(encoder, quantizers, decoder, shape=shape).eval()
        size = tuple(side * factor[0] // factor[1] for side in shape[1:])
        images = NoiseDataset(2, (shape[0], *size)).signals(range(2))
        codes = tokenizer.encode(images)
        assert [tuple(code.shape[1:]) for code in codes] == [level.grid for level in tokenizer.levels_at(size)]
        decoded = tokenizer.decode(codes)
        assert decoded.shape == images.shape
        assert torch.equal(decoded, tokenizer(images).reconstructed)
