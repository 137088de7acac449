"""Laws that the author of a component says do not apply to it, and why: what `waived_laws` of a class holds.

A waived law is still tried; that it may be broken is shown wherever the component is checked, explained or compared.
"""

import difflib
from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import nn

from dvgen.contracts import components, decoder, encoder, quantizer
from dvgen.contracts.autoencoder_subject import AutoencoderSubject
from dvgen.contracts.data_subject import DataSubject, FeaturesSubject, SourceSubject
from dvgen.contracts.law import Law, laws_in
from dvgen.contracts.model_subject import ModelSubject
from dvgen.contracts.prior_subject import PriorSubject
from dvgen.contracts.quantizer_subject import Subject
from dvgen.contracts.signal_subject import AdversarialLossSubject, DiscriminatorSubject, LossSubject
from dvgen.errors import ConfigError
from dvgen.interfaces.autoencoder import Decoder, Encoder
from dvgen.interfaces.data import CodeSource, Dataset
from dvgen.interfaces.discriminator import Discriminator
from dvgen.interfaces.features import Features
from dvgen.interfaces.loss import AdversarialLoss, Loss
from dvgen.interfaces.model import Model
from dvgen.interfaces.prior import Prior
from dvgen.interfaces.quantizer import Quantizer

LEAST_WORDS = 3
"""Words of a reason: fewer say nothing to those who use the component."""


def waivers_of(cls: type[Any]) -> dict[str, str]:
    """The laws that a class waives, by full name, with the reasons.

    Raises ConfigError, in one line, for a law that its kind does not have and for a reason that is none.
    """
    waived, who = cls.waived_laws, f"{cls.__name__}.waived_laws"
    if not isinstance(waived, Mapping):
        raise ConfigError(f"{who} is a {type(waived).__name__}, expected a mapping from the names of laws to reasons")
    known = {law.full_name for law in _laws_of_kind(cls)}
    for name, reason in waived.items():
        if name not in known:
            raise ConfigError(f"{who}: its contract has no law {name!r}{_meant(name, known)}; `dvgen check --json` names all")
        if not isinstance(reason, str) or len(reason.split()) < LEAST_WORDS or len(reason.splitlines()) > 1:
            raise ConfigError(f"{who}: {name!r} for the reason {reason!r}, expected a sentence of {LEAST_WORDS} words or more")
    return dict(waived)


def waived_in(model: nn.Module) -> dict[str, str]:
    """What a model waives, and what the components of its own kind that it is composed of waive; raises as `waivers_of`."""
    found: dict[str, str] = {}
    own = {law.full_name for law in _laws_of_kind(type(model))}
    for kind in dict.fromkeys(type(part) for part in model.modules() if isinstance(part, Model)):
        found = {name: reason for name, reason in waivers_of(kind).items() if name in own} | found
    return found


def waived_by(subject: Any) -> dict[str, str]:
    """What is waived of the contract of a subject of `dvgen.contracts`; raises as `waivers_of`."""
    if isinstance(subject, Subject):
        return waived_in(subject.fresh())
    kinds = subject.kinds if isinstance(subject, ModelSubject) else (subject.kind,)
    return {name: reason for kind in kinds for name, reason in waivers_of(kind).items()}


@cache
def _laws_by_interface() -> dict[type[Any], tuple[Law, ...]]:
    """The laws of each interface; of an encoder those that its decoder has no part in, and the other way round."""
    pair = components.LAWS[AutoencoderSubject]
    subjects: dict[type[Any], type[Any]] = {
        Discriminator: DiscriminatorSubject,
        Loss: LossSubject,
        AdversarialLoss: AdversarialLossSubject,
        Prior: PriorSubject,
        Dataset: DataSubject,
        CodeSource: SourceSubject,
        Features: FeaturesSubject,
    }
    return {
        Quantizer: quantizer.LAWS,
        Encoder: tuple(law for law in pair if law not in laws_in(decoder)),
        Decoder: tuple(law for law in pair if law not in laws_in(encoder)),
        **{interface: components.LAWS[subject] for interface, subject in subjects.items()},
    }


def _laws_of_kind(cls: type[Any]) -> tuple[Law, ...]:
    return next((laws for interface, laws in _laws_by_interface().items() if issubclass(cls, interface)), ())


def _meant(name: object, known: set[str]) -> str:
    """A law that was meant, in words: one that begins with the same number, or is spelt much the same."""
    number = str(name).partition(" ")[0]
    same = sorted(law for law in known if law.partition(" ")[0] == number)
    meant = same or difflib.get_close_matches(str(name), sorted(known), n=1)
    return f" (did you mean {' or '.join(map(repr, meant))}?)" if meant else ""
