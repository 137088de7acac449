"""The contract of a quantizer: 41 properties, P1 to P41, and which of them a quantizer has to keep.

What applies follows from what the quantizer declares (`Quantizer.traits`, `deterministic`, what it overrides); a law whose name
ends in "-" checks that it is no more than it declares. Nothing can be switched off unseen (`waivers.py`).
"""

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
from dvgen.contracts.law import Law, broken_laws, laws_in
from dvgen.contracts.quantizer_subject import Subject

__all__ = ["LAWS", "broken_laws", "laws_of"]

LAWS: tuple[Law, ...] = laws_in(
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


def laws_of(subject: Subject) -> tuple[Law, ...]:
    """The laws that apply to this quantizer."""
    quantizer = subject.fresh()
    return tuple(law for law in LAWS if law.applies(quantizer))
