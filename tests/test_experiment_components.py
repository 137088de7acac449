"""The components that an experiment names: all of them are checked before any work, and every default is written out."""

import json
import sys
import types

import attrs
import pytest
from attrs import field, frozen
from attrs.validators import ge

from dvgen.assembly import build, check_components, component_config, resolved
from dvgen.errors import ConfigError, PluginError
from dvgen.experiment import (
    Choice,
    DataChoice,
    Evaluation,
    Experiment,
    LossChoice,
    PriorChoice,
    digest,
    experiment_from,
    table_of,
)
from dvgen.interfaces.autoencoder import Decoder, Encoder
from dvgen.interfaces.data import Dataset
from dvgen.interfaces.features import Features
from dvgen.interfaces.loss import Loss
from dvgen.interfaces.prior import Prior
from dvgen.interfaces.quantizer import Quantizer
from dvgen.registry import Component, Registry, Supplied

KIND_OF = {
    "dataset": Dataset,
    "encoder": Encoder,
    "decoder": Decoder,
    "quantizer": Quantizer,
    "loss": Loss,
    "prior": Prior,
    "features": Features,
}


@frozen(kw_only=True)
class Config:
    width: int = field(default=8, validator=ge(1))
    widths: tuple[int, ...] = (1, 2)


def component(interface: type) -> type:
    """A concrete class of an interface: every abstract method there, none of them used."""

    def initialise(self, config, **sizes):
        super(cls, self).__init__()
        self.config, self.sizes = config, sizes

    body = {name: lambda self, *arguments, **named: None for name in interface.__abstractmethods__}
    cls = type(interface.__name__, (interface,), body | {"__init__": initialise, "Config": Config})
    return cls


@pytest.fixture
def plain(monkeypatch):
    """A registry with the component `plain` of every kind, and the prior `bare`, which has no Config."""
    module = types.ModuleType("plain_components")
    for interface in KIND_OF.values():
        setattr(module, interface.__name__, component(interface))
    module.Bare = component(Prior)
    del module.Bare.Config
    monkeypatch.setitem(sys.modules, "plain_components", module)
    targets = [(kind, "plain", interface.__name__) for kind, interface in KIND_OF.items()] + [("prior", "bare", "Bare")]
    return Registry(
        [Supplied(Component(kind, name, f"plain_components:{cls}", "s"), "plain", "d 1") for kind, name, cls in targets]
    )


def plainly(**changes) -> Experiment:
    """An experiment of `plain` components."""
    return attrs.evolve(
        Experiment(
            data=DataChoice(use="plain"),
            encoder=Choice(use="plain"),
            quantizer=(Choice(use="plain"),),
            decoder=Choice(use="plain"),
            loss=(LossChoice(use="plain"),),
            prior=(PriorChoice(use="plain"),),
            evaluate=Evaluation(features=("plain",)),
        ),
        **changes,
    )


def test_a_component_is_built_from_its_config_and_the_sizes(plain):
    built = build(plain, "encoder", Choice(use="plain", fields={"width": 3}), channels=1, dims=(4,))
    assert built.config == Config(width=3)
    assert built.sizes == {"channels": 1, "dims": (4,)}


def test_every_name_and_every_field_is_checked_before_any_work(plain):
    check_components(plain, plainly())
    experiment = plainly(
        data=DataChoice(use="plan"),
        encoder=Choice(use="plain", fields={"widht": 3}),
        quantizer=(Choice(use="plain"), Choice(use="plain", fields={"width": 2.5})),
        prior=(PriorChoice(use="plain", fields={"width": 0}),),
        evaluate=Evaluation(features=("gone",)),
    )
    with pytest.raises(ConfigError) as caught:
        check_components(plain, experiment)
    assert str(caught.value).split("\n") == [
        "no dataset named 'plan' (did you mean 'plain'?); known: plain",
        "encoder.widht: unknown key (did you mean 'width'?); known: width, widths",
        "quantizer.1.width: expected int, got 2.5",
        "prior.width: 'width' must be >= 1: 0",
        "no features named 'gone'; known: plain",
    ]


def test_the_path_of_a_fault_is_where_it_stands_in_the_file(plain):
    with pytest.raises(ConfigError, match=r"^data\.width: "):
        check_components(plain, plainly(data=DataChoice(use="plain", fields={"width": "8"})))
    with pytest.raises(ConfigError, match=r"^prior\.width: "):
        component_config(plain, "prior", Choice(use="plain", fields={"width": "8"}))


def test_a_component_without_a_config_is_the_plugins_fault(plain):
    with pytest.raises(PluginError, match=r"prior 'bare': .* has no nested attrs class Config"):
        component_config(plain, "prior", Choice(use="bare"))


def test_resolved_writes_out_every_default_and_changes_nothing_else(plain):
    experiment = plainly(seed=3, quantizer=(Choice(use="plain", fields={"width": 2}), Choice(use="plain")))
    full = resolved(plain, experiment)
    assert full.seed == 3
    assert [choice.fields for choice in full.quantizer] == [{"width": 2, "widths": [1, 2]}, {"width": 8, "widths": [1, 2]}]
    assert full.data.fields == full.prior[0].fields == full.loss[0].fields == {"width": 8, "widths": [1, 2]}
    assert resolved(plain, full) == full
    assert experiment_from(json.loads(json.dumps(table_of(full)))) == full


def test_an_experiment_that_spells_a_default_out_has_the_digest_of_one_that_does_not(plain):
    plain_one, spelt = plainly(), plainly(encoder=Choice(use="plain", fields={"width": 8, "widths": (1, 2)}))
    other = plainly(encoder=Choice(use="plain", fields={"width": 9}))
    assert digest(resolved(plain, plain_one)) == digest(resolved(plain, spelt))
    assert digest(resolved(plain, plain_one)) != digest(resolved(plain, other))
