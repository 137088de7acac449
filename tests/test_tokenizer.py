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

from dvgen.errors import ConfigError, ShapeError
from dvgen.experiment import Experiment, experiment_from
from dvgen.interfaces.codes import Codes
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
        "another grid": (first[:, :-1], *codes[1:]),
        "another type": (first.int(), *codes[1:]),
        "too large": (torch.full_like(first, 4), *codes[1:]),
        "below -1": (torch.full_like(first, -2), *codes[1:]),
    }


@pytest.mark.parametrize(
    "damage", ["too few levels", "too many levels", "another grid", "another type", "too large", "below -1"]
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
