"""The contracts of all components but quantizers as tests: a decorator a kind, and hypothesis draws the examples.

    @prior_contract(MyPrior)
    class TestMyPrior: ...

Every decorator gives its class one test a law, of the component with its config `tiny()` unless another is given, on
shapes that it takes unless `shapes` (of signals, (channels, *size)) or `situations` (of priors) say others. examples: how many
hypothesis draws for each law, beside one of each shape. Needs pytest and hypothesis.
"""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from dvgen.contracts.autoencoder_subject import AutoencoderSubject
from dvgen.contracts.components import laws_of
from dvgen.contracts.model_subject import Example
from dvgen.contracts.prior_subject import PriorSubject, Situation
from dvgen.contracts.pytest_laws import TestClass, as_tests
from dvgen.contracts.signal_subject import AdversarialLossSubject, DiscriminatorSubject, LossSubject
from dvgen.contracts.taken_shapes import Shapes
from dvgen.interfaces.autoencoder import Decoder, Encoder
from dvgen.interfaces.discriminator import Discriminator
from dvgen.interfaces.loss import AdversarialLoss, Loss
from dvgen.interfaces.prior import Prior

EXAMPLES = st.builds(Example, batch=st.integers(1, 3), shape=st.integers(0, 5), seed=st.integers(0, 2**16))
"""Batches, shapes and weights."""

DRAWN = 2
"""Examples a law beside one of each shape: weights and batches matter less."""


def autoencoder_contract(
    encoder: type[Encoder],
    decoder: type[Decoder],
    *,
    configs: tuple[Any, Any] = (None, None),
    shapes: Shapes | None = None,
    examples: int = DRAWN,
) -> Callable[[TestClass], TestClass]:
    """An encoder and a decoder that belong together; configs: of both."""
    return laws_as_tests(AutoencoderSubject(encoder, decoder, configs, shapes), examples)


def discriminator_contract(
    kind: type[Discriminator], *, config: Any = None, shapes: Shapes | None = None, examples: int = DRAWN
) -> Callable[[TestClass], TestClass]:
    """A discriminator."""
    return laws_as_tests(DiscriminatorSubject(kind, config, shapes), examples)


def loss_contract(
    kind: type[Loss],
    *,
    config: Any = None,
    shapes: Shapes | None = None,
    read: Callable[[tuple[int, ...]], tuple[int, ...]] | None = None,
    examples: int = DRAWN,
) -> Callable[[TestClass], TestClass]:
    """A loss of signals; read: for one that reads a distribution, the shape of its parameters from that of the signals."""
    return laws_as_tests(LossSubject(kind, config, shapes, read), examples)


def adversarial_loss_contract(
    kind: type[AdversarialLoss], *, config: Any = None, examples: int = DRAWN
) -> Callable[[TestClass], TestClass]:
    """The two sides of an adversarial game."""
    return laws_as_tests(AdversarialLossSubject(kind, config), examples)


def prior_contract(
    kind: type[Prior], *, config: Any = None, situations: tuple[Situation, ...] | None = None, examples: int = DRAWN
) -> Callable[[TestClass], TestClass]:
    """A prior; situations: levels and contexts that it is built for."""
    return laws_as_tests(PriorSubject(kind, config, situations), examples)


def laws_as_tests(subject: Any, examples: int) -> Callable[[TestClass], TestClass]:
    """The laws of a subject's kind as tests: on an example of each shape, and so many drawn ones."""
    always = every_shape(subject)
    return as_tests(subject, laws_of(subject), plain=Example(), drawn=EXAMPLES, examples=examples, always=always)


def every_shape(subject: Any) -> tuple[Example, ...]:
    """An example of each shape that a subject is tried on."""
    return tuple(Example(shape=shape) for shape in range(subject.variety))
