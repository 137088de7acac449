"""How large an experiment is, before any data are there: its models are built without memory for their weights."""

import math
from collections.abc import Mapping

import torch
from attrs import frozen
from torch import nn

from dvgen.assembly import build
from dvgen.code_model import CodeModel, assemble_code_model
from dvgen.experiment import Experiment
from dvgen.interfaces.codes import Level
from dvgen.registry import Registry
from dvgen.tokenizer import Tokenizer, assemble_tokenizer

IMAGE_BITS, SOUND_BITS = 8, 16
"""Bits of a value of one channel before it is coded: of a pixel, and of a sample of sound on a CD."""


@frozen
class Models:
    """The models of an experiment on torch's meta device; `discriminator` is None without a game."""

    tokenizer: Tokenizer
    discriminator: nn.Module | None
    code_model: CodeModel


@frozen
class Outline:
    """Trainable parameters by part, and what a signal becomes.

    quantizers: by map name, of an encoder with one map "". discriminator: None without a game. priors: by the name of
    their level. signal_bits: of one signal before it is coded, 8 a value of an image, 16 of sound.
    """

    encoder: int
    quantizers: Mapping[str, int]
    decoder: int
    discriminator: int | None
    priors: Mapping[str, int]
    levels: tuple[Level, ...]
    signal_bits: int

    @property
    def tokenizer(self) -> int:
        """Parameters of encoder, quantizers and decoder."""
        return self.encoder + sum(self.quantizers.values()) + self.decoder

    @property
    def prior(self) -> int:
        """Parameters of all priors."""
        return sum(self.priors.values())

    @property
    def codes(self) -> int:
        """Codes of one signal, over all levels."""
        return sum(level.length for level in self.levels)

    @property
    def bits(self) -> float:
        """Bits that the codes of one signal take when every code is as likely as any other."""
        return sum(level.length * math.log2(level.num_codes) for level in self.levels)

    @property
    def compression(self) -> float:
        """Bits of a signal over bits of its codes; infinite when there is only one code."""
        return self.signal_bits / self.bits if self.bits else math.inf


def models_of(registry: Registry, experiment: Experiment, shape: tuple[int, ...], num_classes: int) -> Models:
    """Build the models of an experiment for signals of shape (channels, *size) on torch's meta device.

    num_classes: of the data, 0 when they are not known; it counts only for priors with labels. Losses are not built, for
    some need a file of weights. Raises ConfigError when the parts do not fit.
    """
    game = experiment.adversarial
    with torch.device("meta"):
        tokenizer = assemble_tokenizer(registry, experiment, shape)
        discriminator = build(registry, "discriminator", game.discriminator, channels=shape[0]) if game else None
        code_model = assemble_code_model(registry, experiment, tokenizer.levels, num_classes if experiment.labels else 0)
    return Models(tokenizer, discriminator, code_model)


def outline(registry: Registry, experiment: Experiment, shape: tuple[int, ...], num_classes: int = 0) -> Outline:
    """The outline of an experiment on signals of shape (channels, *size); arguments and errors are those of `models_of`."""
    models = models_of(registry, experiment, shape, num_classes)
    tokenizer = models.tokenizer
    names = [level.name for level in tokenizer.levels]
    return Outline(
        encoder=parameters(tokenizer.encoder),
        quantizers=dict(zip(tokenizer.map_names, map(parameters, tokenizer.quantizers), strict=True)),
        decoder=parameters(tokenizer.decoder),
        discriminator=None if models.discriminator is None else parameters(models.discriminator),
        priors=dict(zip(names, map(parameters, models.code_model.priors), strict=True)),
        levels=tokenizer.levels,
        signal_bits=math.prod(shape) * (SOUND_BITS if len(shape) == 2 else IMAGE_BITS),
    )


def parameters(module: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
