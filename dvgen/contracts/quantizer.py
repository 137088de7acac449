"""The contract of a quantizer: 41 properties, P1 to P41, and which of them a quantizer has to keep.

What applies follows from what the quantizer declares (`Quantizer.traits`, `deterministic`, what it overrides); a law whose name
ends in "-" checks that it is no more than it declares. Nothing can be switched off.
"""

from collections.abc import Iterable

from dvgen.contracts import (
    quantizer_compiled,
    quantizer_composition,
    quantizer_gradients,
    quantizer_initialise,
    quantizer_losses,
    quantizer_masks,
    quantizer_nearest,
    quantizer_precision,
    quantizer_ranks,
    quantizer_revival,
    quantizer_softmax,
    quantizer_state,
    quantizer_structure,
    quantizer_systems,
    quantizer_updates,
    quantizer_values,
)
from dvgen.contracts.law import Law
from dvgen.contracts.quantizer_subject import Example, Subject

_FILES = (
    quantizer_values,
    quantizer_nearest,
    quantizer_gradients,
    quantizer_softmax,
    quantizer_losses,
    quantizer_state,
    quantizer_initialise,
    quantizer_precision,
    quantizer_updates,
    quantizer_revival,
    quantizer_structure,
    quantizer_masks,
    quantizer_composition,
    quantizer_systems,
    quantizer_compiled,
    quantizer_ranks,
)

LAWS: tuple[Law, ...] = tuple(law for module in _FILES for law in vars(module).values() if isinstance(law, Law))


def laws_of(subject: Subject) -> tuple[Law, ...]:
    """The laws that apply to this quantizer."""
    quantizer = subject.fresh()
    return tuple(law for law in LAWS if law.applies(quantizer))


def broken_laws(subject: Subject, examples: Iterable[Example], laws: Iterable[Law]) -> dict[str, str]:
    """What does not hold, by name of law and check ("P12 straight_through"): the first failure, as one line. No hypothesis."""
    found: dict[str, str] = {}
    tried = tuple(examples)
    for law in laws:
        for example in tried[:1] if law.once else tried:
            try:
                law.check(subject, example)
            except Exception as error:
                found[f"{law.name} {law.check.__name__}"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
                break
    return found
