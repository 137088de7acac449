"""The contracts of all components but quantizers: which laws there are for each kind, and which of them a component keeps.

M1 to M10 are of every model; E and D of an encoder and a decoder that belong together, G of discriminators, L of losses, A of
adversarial losses, R of priors. What applies follows from the class; nothing can be switched off.
"""

from dvgen.contracts import (
    adversarial_loss,
    decoder,
    discriminator,
    encoder,
    loss,
    model_state,
    model_training,
    prior_order,
    prior_samples,
    prior_values,
)
from dvgen.contracts.autoencoder_subject import AutoencoderSubject
from dvgen.contracts.law import Law, broken_laws, laws_in
from dvgen.contracts.model_subject import Example, ModelSubject
from dvgen.contracts.prior_subject import PriorSubject
from dvgen.contracts.signal_subject import AdversarialLossSubject, DiscriminatorSubject, LossSubject

__all__ = [
    "LAWS",
    "AdversarialLossSubject",
    "AutoencoderSubject",
    "DiscriminatorSubject",
    "Example",
    "LossSubject",
    "PriorSubject",
    "broken_laws",
    "laws_of",
]

_MODEL = laws_in(model_state, model_training)

LAWS: dict[type[ModelSubject], tuple[Law, ...]] = {
    AutoencoderSubject: _MODEL + laws_in(encoder, decoder),
    DiscriminatorSubject: _MODEL + laws_in(discriminator),
    LossSubject: _MODEL + laws_in(loss),
    AdversarialLossSubject: _MODEL + laws_in(adversarial_loss),
    PriorSubject: _MODEL + laws_in(prior_values, prior_order, prior_samples),
}
"""The laws of each kind of component, by its subject."""


def laws_of(subject: ModelSubject) -> tuple[Law, ...]:
    """The laws that apply to this component."""
    return tuple(law for law in LAWS[type(subject)] if law.applies(subject))
