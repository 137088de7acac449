"""The contract of a component: what it is checked on, its laws, and the situations that hypothesis draws. Needs hypothesis."""

from collections.abc import Callable
from typing import Any

import attrs
from attrs import frozen
from hypothesis import strategies as st
from torch import nn

from dvgen.assembly import build
from dvgen.checking.targets import PAIRS, Checked, Group
from dvgen.config import unstructure
from dvgen.contracts import components, pytest_components, pytest_quantizer, quantizer, quantizer_subject
from dvgen.contracts.autoencoder_subject import AutoencoderSubject
from dvgen.contracts.data_subject import DataSubject, FeaturesSubject, SourceSubject
from dvgen.contracts.law import Law
from dvgen.contracts.model_subject import Example
from dvgen.contracts.prior_subject import PriorSubject
from dvgen.contracts.signal_subject import AdversarialLossSubject, DiscriminatorSubject, LossSubject, SignalSubject
from dvgen.errors import ConfigError
from dvgen.experiment import Choice
from dvgen.parts import Part, parts

_SHAPED = AutoencoderSubject | SignalSubject | FeaturesSubject
"""Subjects with shapes of signals."""

QUANTIZER_EXAMPLES = 10
"""Situations a law of quantizers: its examples have ten sides."""


class Untried(Exception):
    """What a contract would be tried on is not known; the text says what to do instead."""


@frozen
class Contract:
    """Laws, and what they are tried on.

    plain: the example that others are told as a difference from. always: examples that every law is tried on. drawn:
    strategy of the others, `examples` of them.
    """

    subject: Any
    laws: tuple[Law, ...]
    plain: Any
    always: tuple[Any, ...]
    drawn: st.SearchStrategy[Any]
    examples: int

    def words(self, example: Any) -> str:
        """An example as text: the fields that differ from the plain one."""
        fields = attrs.asdict(example, recurse=False)
        changed = {name: value for name, value in fields.items() if value != getattr(self.plain, name)}
        if "shape" in changed:
            changed |= self._shape(example)
        return ", ".join(f"{name}={str(value).removeprefix('torch.')}" for name, value in changed.items())

    def _shape(self, example: Any) -> dict[str, Any]:
        """The shape of a number of a subject, in words."""
        subject = self.subject
        if isinstance(subject, _SHAPED):
            return {"shape": subject.shape(example)}
        if isinstance(subject, PriorSubject):
            levels, context = subject.situation(example)
            grids = "+".join(f"{'x'.join(map(str, level.grid))} of {level.num_codes} codes" for level in levels)
            return {"shape": f"{grids}, {context.num_classes} classes, {len(context.coarser)} coarser levels"}
        return {}


def contract_of(group: Group, examples: int | None) -> Contract | None:
    """The contract of a group; None for a recipe, which has none.

    examples: how many situations are drawn for each law, a number that suits the kind unless given. Raises Untried when its
    shapes or its other half are not known, and whatever the component raises when it is made.
    """
    kind = group[0].kind
    if not group[0].has_class:
        return None
    if kind == "quantizer":
        made = _maker(group[0])
        subject = quantizer_subject.Subject(made)
        count = QUANTIZER_EXAMPLES if examples is None else examples
        plain = quantizer_subject.Example()
        return Contract(subject, quantizer.laws_of(subject), plain, (), pytest_quantizer.EXAMPLES, count)
    model = _subject(group)
    always = pytest_components.every_shape(model)
    count = pytest_components.DRAWN if examples is None else examples
    return Contract(model, components.laws_of(model), Example(), always, pytest_components.EXAMPLES, count)


def built(one: Checked) -> nn.Module:
    """A component of its tiny config, for shapes that it takes. Raises Untried when none of those known suits it."""
    if one.kind == "quantizer":
        made: nn.Module = _maker(one)()
        return made
    if one.kind in PAIRS:
        cls = one.load()
        return _half(cls, one.kind == "encoder")
    return _subject((one,)).fresh(Example())


def _maker(one: Checked) -> Callable[[], Any]:
    """Makes a quantizer of its tiny config, its parts from the registry."""
    fields = unstructure(one.load().tiny())
    return lambda: build(one.registry, one.kind, Choice(use=one.name, fields=fields))


def _half(cls: Any, encoder: bool) -> nn.Module:
    """An encoder, or a decoder of so many maps as it takes."""
    config = cls.tiny()
    counts = (cls.maps(config),) if encoder else (1, 2, 3, 4)
    for count in counts:
        try:
            made: nn.Module = cls(config, channels=1, dims=(3,) * count)
        except ConfigError:
            if count == counts[-1]:
                raise
        else:
            break
    return made


def _subject(group: Group) -> Any:
    one = group[0]
    kind, cls = one.kind, one.load()
    if kind in PAIRS:
        return _known(_pair(group))
    if kind == "loss":
        return _known(_loss(one))
    if kind == "dataset":
        return _opened(one)
    if kind == "code-source":
        return SourceSubject(cls, None, _parts(one))
    kinds: dict[str, Callable[[Any], Any]] = {
        "features": FeaturesSubject,
        "discriminator": DiscriminatorSubject,
        "adversarial-loss": AdversarialLossSubject,
        "prior": PriorSubject,
    }
    return _known(kinds[kind](cls))


def _known(subject: Any) -> Any:
    """The subject, once it is clear that it has shapes to be tried on."""
    try:
        if isinstance(subject, PriorSubject):
            _ = subject.situations
        elif isinstance(subject, _SHAPED):
            _ = subject.shapes
    except ConfigError:
        raise Untried(
            "it takes none of the shapes that are tried here; apply the contract in a test of your own, with shapes that"
            " it takes (dvgen.contracts.pytest_components and pytest_data)"
        ) from None
    return subject


def _opened(one: Checked) -> DataSubject:
    """A data set that is there. Raises DataError where it is not, and Untried where nothing says where it is."""
    cls = one.load()
    if cls.located and one.location is None:
        raise Untried(f"{one.name} is read from files; say where they are: dvgen check {one.name}:DIR")
    subject = DataSubject(cls, location=one.location)
    _ = subject.dataset
    return subject


def _parts(one: Checked) -> dict[str, Callable[..., Any]]:
    """What makes each part of a component of its default config, by field."""

    def factory(kind: str, part: Part) -> Callable[..., Any]:
        return lambda **changes: build(one.registry, kind, Choice(use=part.use, fields={**part.fields, **changes}))

    config = one.load().Config()
    return {field: factory(kind, getattr(config, field)) for field, kind in parts(type(config)).items()}


def _pair(group: Group) -> AutoencoderSubject:
    if len(group) == 1:
        one, other = group[0], PAIRS[group[0].kind]
        raise Untried(f"{one.kind} {one.name!r}: its plugin has no {other}, and it is checked with the {other} of its name")
    return AutoencoderSubject(group[0].load(), group[1].load())


def _loss(one: Checked) -> LossSubject:
    """A loss, on the signals that fit it; one of a distribution, on what a decoder makes for it."""
    cls = one.load()
    if cls.reads == "signals":
        return LossSubject(cls)
    for name in one.registry.names("decoder"):
        decoder = one.registry.load("decoder", name)
        if decoder.makes == cls.reads and name in one.registry.names("encoder"):
            pair = AutoencoderSubject(one.registry.load("encoder", name), decoder)
            shapes = {shape: _made_shape(pair, i) for i, shape in enumerate(pair.shapes)}
            return LossSubject(cls, None, tuple(shapes), shapes.__getitem__)
    raise Untried(f"loss {one.name!r} reads {cls.reads!r}, and no installed decoder makes it; install the plugin of one")


def _made_shape(pair: AutoencoderSubject, shape: int) -> tuple[int, ...]:
    """What the decoder makes for signals of a shape, without the batch."""
    example = Example(batch=1, shape=shape)
    return tuple(pair.outputs(pair.prepared(example), *pair.inputs(example))["output"].shape[1:])
