"""The contracts of all components but quantizers: which laws there are for each kind, and which of them a component keeps.

M1 to M10 are of every model; E and D of an encoder and a decoder that belong together, G of discriminators, L of losses, A of
adversarial losses, R of priors; S is of data sets, C of code sources, F of features. What applies follows from the class;
nothing can be switched off unseen (`waivers.py`).
"""

from typing import Any

from dvgen.contracts import (
    adversarial_loss,
    code_source,
    data_set,
    data_set_identity,
    decoder,
    discriminator,
    encoder,
    features,
    loss,
    model_state,
    model_training,
    prior_order,
    prior_samples,
    prior_values,
)
from dvgen.contracts.autoencoder_subject import AutoencoderSubject
from dvgen.contracts.data_subject import DataSubject, FeaturesSubject, SourceSubject
from dvgen.contracts.law import Law, broken_laws, laws_in
from dvgen.contracts.model_subject import Example
from dvgen.contracts.prior_subject import PriorSubject
from dvgen.contracts.signal_subject import AdversarialLossSubject, DiscriminatorSubject, LossSubject

__all__ = [
    "LAWS",
    "AdversarialLossSubject",
    "AutoencoderSubject",
    "DataSubject",
    "DiscriminatorSubject",
    "Example",
    "FeaturesSubject",
    "LossSubject",
    "PriorSubject",
    "SourceSubject",
    "broken_laws",
    "laws_of",
]

_MODEL = laws_in(model_state, model_training)

LAWS: dict[type[Any], tuple[Law, ...]] = {
    AutoencoderSubject: _MODEL + laws_in(encoder, decoder),
    DiscriminatorSubject: _MODEL + laws_in(discriminator),
    LossSubject: _MODEL + laws_in(loss),
    AdversarialLossSubject: _MODEL + laws_in(adversarial_loss),
    PriorSubject: _MODEL + laws_in(prior_values, prior_order, prior_samples),
    DataSubject: laws_in(data_set, data_set_identity),
    SourceSubject: laws_in(code_source),
    FeaturesSubject: laws_in(features),
}
"""The laws of each kind of component, by its subject."""


def laws_of(subject: Any) -> tuple[Law, ...]:
    """The laws that apply to this component."""
    return tuple(law for law in LAWS[type(subject)] if law.applies(subject))
