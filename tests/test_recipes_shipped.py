"""The recipes that are shipped: each is what its source says it is, part by part, value by value and in its size."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from dvgen.assembly import checked_experiment, resolved
from dvgen.cli.options import recipe_experiment
from dvgen.discovery import Plugins, discover
from dvgen.experiment import experiment_from, table_of
from dvgen.recipes import read_recipe, recipe_text
from dvgen.registry import Registry
from dvgen.tokenizer import assemble_tokenizer
from dvgen.training.outline import models_of, outline, parameters

NAMES = discover().registry.names("recipe")
HEAVY = {"torch", "torchvision", "lightning_fabric", "scipy", "torchmetrics", "lpips"}
Values = dict[str, Any]


def table(prefix: str, **values: Any) -> Values:
    """The values of one table, by their whole path."""
    return {f"{prefix}.{name}": value for name, value in values.items()}


# CompVis/taming-transformers at 3ba01b2, configs/*.yaml; its base_learning_rate of 4.5e-6 is multiplied by the batch. The GPT
# is that of Esser et al. (2021), table 8, trained as in that repository: AdamW, decay on linear layers, no warm-up, no clip.
VQGAN_TRAINING = table("train.tokenizer", betas=[0.5, 0.9], decay=0.0, warmup=0, clip=1e6, weight_decay=0.0, ema=0.0)
VQGAN_GAME = (
    table("adversarial", weight=0.8, adaptive=True, ramp=0, betas=[0.5, 0.9])
    | table("adversarial.discriminator", use="patchgan", layers=3, channels=64, norm="batch")
    | {"adversarial.loss.use": "hinge", "loss.0.use": "l1", "loss.0.weight": 1.0}
    | table("loss.1", use="lpips", net="vgg", weight=1.0)
)
VQGAN_NETWORK = {"channels": 128, "blocks": 2, "z_channels": 256}
VQGAN_PRIOR = table("prior.0", use="gpt", layers=24, dim=1024, heads=16) | table(
    "train.prior", batch=16, lr=4.5e-6 * 16, betas=[0.9, 0.95], weight_decay=0.01, warmup=0, decay=0.0, clip=1e6
)
VQGAN = VQGAN_TRAINING | VQGAN_GAME | VQGAN_PRIOR
F16 = VQGAN | {
    **table("encoder", **VQGAN_NETWORK, multipliers=[1, 1, 2, 2, 4], attention=[16]),
    **table("decoder", **VQGAN_NETWORK, multipliers=[1, 1, 2, 2, 4], attention=[16]),
    **table("quantizer.0", use="vq", num_codes=1024, dim=256, commitment=0.25),
}
# The PixelSNAIL of rosinality/vq-vae-2-pytorch at ef5f67c, train_pixelsnail.py
ROSINALITY_PRIORS = {
    **table("prior.0", level="top", channels=256, kernel=5, blocks=4, residual_blocks=4, heads=8, dropout=0.1),
    **table("prior.1", level="bottom", channels=256, kernel=5, blocks=4, residual_blocks=4, attention=False, dropout=0.1),
    "prior.1.conditioning_blocks": 3,
    **table("train.prior", batch=32, lr=3e-4, betas=[0.9, 0.999], warmup=0, decay=0.0, clip=1e6),
}
TWO_MAPS = {**table("encoder", channels=128, residual_blocks=2, downsample=4, maps=2), "quantizer.0.num_codes": 512}
VALUES: dict[str, Values] = {
    "vqgan-imagenet-f16": F16
    | table("adversarial", begin=250001, start=250001)
    | table("train.tokenizer", batch=12, lr=4.5e-6 * 12),
    "vqgan-faceshq": F16 | table("adversarial", begin=30001, start=30001) | table("train.tokenizer", batch=3, lr=4.5e-6 * 3),
    # model.yaml beside the released weights vqgan_gumbel_f8: kl_weight, and the scheduler of the temperature
    "vqgan-gumbel-f8": {
        **VQGAN,
        **table("encoder", **VQGAN_NETWORK, multipliers=[1, 1, 2, 4], attention=[8]),
        **table("decoder", **VQGAN_NETWORK, multipliers=[1, 1, 2, 4], attention=[8]),
        **table("quantizer.0", use="gumbel", num_codes=8192, dim=256, kl=1e-8),
        **table("quantizer.0", temperature_start=0.9, temperature_end=1e-6, temperature_steps=1000001),
        **table("adversarial", begin=250001, start=250001),
        **table("train.tokenizer", batch=12, lr=4.5e-6 * 12, budget="steps:1000001"),
    },
    # Esser et al. (2021), table 5: 512 codes, 64x64 and 32x32. Network: VQ-VAE-2's; training: imagenet_vqgan.yaml
    "vqgan-vqvae2-hierarchy": {
        **VQGAN_TRAINING,
        **VQGAN_GAME,
        **TWO_MAPS,
        **ROSINALITY_PRIORS,
        **table("quantizer.0", use="vq", commitment=0.25),
        **table("adversarial", begin=250001, start=250001),
        **table("train.tokenizer", batch=12, lr=4.5e-6 * 12),
    },
    # rosinality at ef5f67c: vqvae.py, train_vqvae.py; 560 and 420 epochs of 70000 images
    "vqvae2-ffhq256": {
        **TWO_MAPS,
        **ROSINALITY_PRIORS,
        "encoder.residual_channels": 32,
        **table("quantizer.0", use="ema", dim=64, decay=0.99, commitment=0.25),
        **table("train.tokenizer", budget=f"steps:{560 * 547}", batch=128, lr=3e-4, decay=0.0, clip=1e6, warmup=0),
        "train.prior.budget": f"steps:{420 * (70000 // 32)}",
    },
    # Razavi et al. (2019), appendix A, as far as the note of the recipe does not take it back
    "vqvae2-imagenet256": {
        **TWO_MAPS,
        "encoder.residual_channels": 64,
        **table("quantizer.0", use="ema", dim=64, decay=0.99, commitment=0.25),
        **table("prior.0", level="top", channels=512, kernel=5, blocks=4, residual_blocks=5, heads=8, dropout=0.1),
        **table("prior.1", level="bottom", channels=512, kernel=5, blocks=4, residual_blocks=5, attention=False, dropout=0.1),
        "prior.1.conditioning_blocks": 20,
        **table("train.tokenizer", budget="steps:2207444", batch=128),
        **table("train.prior", budget="steps:754000", batch=512),
    },
    # DeepMind Sonnet, examples/vqvae_example.ipynb; 4 is 1 over the variance of the pixels in [-1, 1]
    "vqvae-cifar10": {
        **table("encoder", channels=128, residual_channels=32, residual_blocks=2, downsample=4),
        **table("decoder", channels=128, residual_channels=32, residual_blocks=2, downsample=4),
        **table("quantizer.0", use="ema", num_codes=512, dim=64, commitment=0.25, decay=0.99),
        **table("loss.0", use="mse", weight=4.0),
        **table("train.tokenizer", batch=32, lr=3e-4, betas=[0.9, 0.999], clip=1e6, weight_decay=0.0),
        "prior.0.use": "pixelcnn",
    },
    # Ramesh et al. (2021), appendix A.2; openai/DALL-E, dall_e/encoder.py
    "dalle-dvae": {
        **table("encoder", channels=256, blocks=2, downsample=8),
        **table("decoder", channels=256, blocks=2, downsample=8),
        **table("quantizer.0", use="gumbel", num_codes=8192, kl=6.6 / 192),
        **table("quantizer.0", temperature_start=1.0, temperature_end=1 / 16, temperature_steps=150000),
        "loss.0.use": "logit-laplace",
        **table("train.tokenizer", budget="steps:1200000", batch=512, lr=1e-4, weight_decay=1e-4, ema=0.999, clip=1e6),
    },
}
"""What a recipe must hold once its fields are filled in: the values that decide whether it is the experiment of its source."""

PUBLISHED: dict[str, dict[str, int]] = {
    "vqgan-imagenet-f16": {"tokenizer": 72141699, "discriminator": 2765633, "prior": 307000000},
    "vqgan-faceshq": {"tokenizer": 72141699, "discriminator": 2765633, "prior": 307000000},
    "vqgan-gumbel-f8": {"tokenizer": 68995971},
    "vqvae2-ffhq256": {"tokenizer": 1388867},
    "vqvae-cifar10": {"tokenizer": 662723},
}
"""Parameters that sources count or state; the other recipes have no such source."""

OURS = {"tones-tiny", "vqgan-tiny", "vqvae-tiny", "vqvae2-tiny"}
"""Small recipes whose values are no one else's."""


def value(found: Any, path: str) -> Any:
    """What stands at a dotted path, where a number is a place in a list."""
    for key in path.split("."):
        found = found[int(key)] if key.isdigit() else found[key]
    return found


def near(wanted: Any) -> Any:
    """But for the rounding of a product such as 4.5e-6 * 3."""
    return pytest.approx(wanted, rel=1e-12) if isinstance(wanted, float) else wanted


def test_every_recipe_is_checked_against_its_source_or_is_our_own() -> None:
    assert sorted([*VALUES, *OURS]) == sorted(NAMES)


@pytest.mark.parametrize("name", VALUES)
def test_every_value_that_matters_is_that_of_the_source(registry: Registry, name: str) -> None:
    found = table_of(resolved(registry, recipe_experiment(registry, read_recipe(registry, name))))
    wrong = {path: value(found, path) for path, wanted in VALUES[name].items() if value(found, path) != near(wanted)}
    assert wrong == {}


@pytest.mark.parametrize("name", NAMES)
def test_the_counts_of_the_source_are_told(registry: Registry, name: str) -> None:
    """So that the test of sizes has something to compare with."""
    published = read_recipe(registry, name).published
    told = {part: getattr(published, part) for part in ("tokenizer", "discriminator", "prior")}
    assert {part: count for part, count in told.items() if count is not None} == PUBLISHED.get(name, {})


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_fits_together_and_has_the_parameters_its_source_counts(registry: Registry, name: str) -> None:
    """Within 1 %. Built on the meta device, so the largest takes no memory; and what it decodes has the shape it was given."""
    recipe = read_recipe(registry, name)
    experiment = recipe_experiment(registry, recipe)
    found = outline(registry, experiment, recipe.shape, recipe.classes)
    for part in ("tokenizer", "discriminator", "prior"):
        published, ours = getattr(recipe.published, part), getattr(found, part)
        assert published is None or ours == pytest.approx(published, rel=0.01), part
    tokenizer = models_of(registry, experiment, recipe.shape, recipe.classes).tokenizer
    grids = tokenizer.encoder.grids(recipe.shape[1:])
    vectors = [torch.zeros(1, q.dim, *grid, device="meta") for q, grid in zip(tokenizer.quantizers, grids, strict=True)]
    assert tokenizer.decoder.signals(tokenizer.decoder(tuple(vectors))).shape == (1, *recipe.shape)


def test_codes_bits_and_ratio_are_those_worked_out_by_hand(registry: Registry) -> None:
    """VQ-VAE-2 on 256x256 pixels: 32x32 and 64x64 codes, each one of 512, which are 9 bits."""
    recipe = read_recipe(registry, "vqvae2-ffhq256")
    found = outline(registry, recipe_experiment(registry, recipe), recipe.shape)
    assert [(level.name, level.grid) for level in found.levels] == [("top", (32, 32)), ("bottom", (64, 64))]
    assert found.codes == 1024 + 4096
    assert found.bits == 9 * 5120
    assert found.compression == pytest.approx(256 * 256 * 3 * 8 / (9 * 5120))


def test_the_bits_of_sound_are_sixteen_a_sample(registry: Registry) -> None:
    parts = {"encoder": {"use": "vqvae-1d"}, "decoder": {"use": "vqvae-1d"}}
    assert outline(registry, experiment_from(parts), (1, 2048)).signal_bits == 16 * 2048


def test_the_outline_counts_what_a_real_model_has(registry: Registry) -> None:
    """With a game, two maps and class labels: every part by itself, and their sum."""
    table = {
        "labels": True,
        "encoder": {"use": "vqvae2"},
        "decoder": {"use": "vqvae2"},
        "quantizer": [{"use": "vq"}, {"use": "gumbel"}],
        "prior": {"use": "gpt", "dim": 16, "heads": 2},
        "adversarial": {},
    }
    experiment = experiment_from(table)
    found = outline(registry, experiment, (3, 32, 32), 10)
    tokenizer = assemble_tokenizer(registry, experiment, (3, 32, 32))
    assert found.tokenizer == parameters(tokenizer)
    assert list(found.quantizers) == ["top", "bottom"]
    assert found.encoder == sum(p.numel() for p in tokenizer.encoder.parameters())
    assert list(found.quantizers.values()) == [sum(p.numel() for p in q.parameters()) for q in tokenizer.quantizers]
    assert found.discriminator
    assert list(found.priors) == ["top", "bottom"]
    fewer = outline(registry, experiment, (3, 32, 32), 9)
    assert found.prior - fewer.prior > 0  # an embedding of one class
    assert outline(registry, experiment_from(table | {"adversarial": None}), (3, 32, 32)).discriminator is None


def test_what_a_run_keeps_of_a_recipe_is_the_experiment(registry: Registry) -> None:
    """Resolved, it goes through a file and back, and holds no table of the recipe."""
    for name in NAMES:
        table = tomllib.loads(recipe_text(registry, name))
        table.pop("recipe")
        experiment = resolved(registry, checked_experiment(registry, table))
        assert experiment_from(json.loads(json.dumps(table_of(experiment)))) == experiment


def test_every_recipe_of_these_plugins_stands_where_it_is_looked_for() -> None:
    """No file is left without a component: it would be shipped and could not be used."""
    plugins: Plugins = discover()
    targets = {s.component.target for s in plugins.registry.supplied if s.component.kind == "recipe"}
    folder = Path(__file__).parents[1] / "plugins"
    files = {f"{path.parents[1].name}:recipes/{path.name}" for path in folder.glob("*/recipes/*")}
    assert files == targets


@pytest.mark.parametrize("arguments", [["recipes"], ["recipes", "--json"], ["recipes", "vqvae2-tiny", "--toml"]])
def test_listing_recipes_imports_nothing_heavy(arguments: list[str]) -> None:
    """`-X importtime` writes one line a module on standard error."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "dvgen", *arguments], capture_output=True, text=True, check=True
    )
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "dvgen" in imported
    assert imported & HEAVY == set()
