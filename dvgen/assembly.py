"""An experiment meets the registry: every component checked, written out with its defaults, and made. Imports no torch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from dvgen.config import structure, unstructure
from dvgen.errors import ConfigError, PluginError
from dvgen.experiment import Choice, DataChoice, Experiment, choices_in, experiment_from
from dvgen.parts import Part, overlaid, parts, stacked
from dvgen.registry import Registry

_KINDS = {"adversarial.discriminator": "discriminator", "adversarial.loss": "adversarial-loss"}
"""The kind of component at a path of an experiment, where it is not the path itself."""
_DEEPEST = 16  # far more than a person writes: deeper is a default that comes back to itself


def build(registry: Registry, kind: str, choice: Choice, **sizes: object) -> Any:
    """Make the component that `choice` names; `sizes` are what is known only on assembly (dims, levels, ...).

    For each part of its Config the class also receives a factory, under the field's name: every call makes a new
    instance, and keyword arguments change fields of the part's Config (ConfigError for a value that it refuses). Sizes are
    the component's own and not passed to parts.
    """
    return _made(registry, kind, choice.use, component_config(registry, kind, choice), kind, **sizes)


def component_config(registry: Registry, kind: str, choice: Choice, path: str = "") -> Any:
    """The checked Config of a choice, every field of its parts written out; `path` is where it stands in the file.

    The table of a part that leaves out `use`, or repeats the name that the Config declares for it, changes fields of the
    declared part. With another name it holds all that differs from the defaults of the component it names: fields that
    were written for the old one and that the new one lacks are unknown keys, as in a box, and never dropped in silence.
    Raises ConfigError with every fault of its fields and parts, and PluginError when a component has no Config.
    """
    registry.load(kind, choice.use)  # the fault of a box that is filled by an unknown name needs no path
    return _config(registry, kind, choice.use, [choice.fields], path or kind)


def check_components(registry: Registry, experiment: Experiment) -> None:
    """Look every name up and check every field before any work is done; raises ConfigError with every fault."""
    faults = []
    for path, kind, choice in chosen_components(experiment):
        try:
            component_config(registry, kind, choice, path)
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError("\n".join(dict.fromkeys(faults)))


def checked_experiment(registry: Registry, table: Mapping[str, Any]) -> Experiment:
    """`experiment_from` and `check_components` in one: raises ConfigError with every fault of both."""
    try:
        experiment = experiment_from(table)
    except ConfigError as error:
        raise ConfigError("\n".join([str(error), *_component_faults(registry, table)])) from None
    check_components(registry, experiment)
    return experiment


def resolved(registry: Registry, experiment: Experiment) -> Experiment:
    """The experiment with every default of every component written out: what `config.json` holds and hashes are taken of."""

    def full(kind: str, choice: Any) -> Any:
        return attrs.evolve(choice, fields=unstructure(component_config(registry, kind, choice)))

    game = experiment.adversarial
    if game is not None:
        players = full("discriminator", game.discriminator), full("adversarial-loss", game.loss)
        game = attrs.evolve(game, discriminator=players[0], loss=players[1])
    return attrs.evolve(
        experiment,
        adversarial=game,
        data=full(data_kind(experiment.data), experiment.data),
        encoder=full("encoder", experiment.encoder),
        decoder=full("decoder", experiment.decoder),
        quantizer=tuple(full("quantizer", choice) for choice in experiment.quantizer),
        loss=tuple(full("loss", choice) for choice in experiment.loss),
        prior=tuple(full("prior", choice) for choice in experiment.prior),
    )


def _made(registry: Registry, kind: str, name: str, config: Any, path: str, **sizes: object) -> Any:
    factories = {
        field: _factory(registry, part_kind, getattr(config, field), f"{path}.{field}")
        for field, part_kind in parts(type(config)).items()
    }
    return registry.load(kind, name)(config, **factories, **sizes)


def _factory(registry: Registry, kind: str, part: Part, path: str) -> Callable[..., Any]:
    def make(**changes: object) -> Any:
        config = _config(registry, kind, part.use, [unstructure(changes), part.fields], path)
        return _made(registry, kind, part.use, config, path)

    return make


def _config(registry: Registry, kind: str, name: str, layers: Sequence[Mapping[str, object]], path: str) -> Any:
    """The Config of a component from tables of its fields, the one that counts most first; ConfigError with every fault."""
    config = _config_class(registry, kind, name, path)
    table, faults = overlaid(layers), []
    for field, part_kind in parts(config).items():
        use, part_layers = stacked([*(layer[field] for layer in layers if field in layer), *_declared(config, field)])
        if not isinstance(use, str):
            continue  # `structure` tells
        table[field] = {"use": use}
        try:
            table[field] = {"use": use} | unstructure(_config(registry, part_kind, use, part_layers, f"{path}.{field}"))
        except ConfigError as error:
            faults += str(error).splitlines()
    try:
        built: Any = structure(table, config, path)
    except ConfigError as error:
        faults += str(error).splitlines()
    if faults:
        raise ConfigError("\n".join(faults))
    return built


def _declared(config: type, field: str) -> list[Any]:
    """The table of a part's default; empty for a part that must be named."""
    default = attrs.fields_dict(config)[field].default
    return [unstructure(default)] if isinstance(default, Part) else []


def _config_class(registry: Registry, kind: str, name: str, path: str) -> type:
    if path.count(".") > _DEEPEST:
        raise PluginError(f"{path}: parts of parts without end: the default part of {kind} {name!r} leads back to itself")
    try:
        cls = registry.load(kind, name)
    except ConfigError as error:
        raise ConfigError(f"{path}.use: {error}") from None
    config = getattr(cls, "Config", None)
    if not isinstance(config, type) or not attrs.has(config):
        raise PluginError(f"{kind} {name!r}: {cls.__module__}:{cls.__qualname__} has no nested attrs class Config; give it one")
    return config


def _component_faults(registry: Registry, table: Mapping[str, Any]) -> list[str]:
    """Faults of those components that can be read in a table with faults of other kinds."""
    faults: list[str] = []
    for path, choice in choices_in(table):
        try:
            kind = data_kind(choice) if isinstance(choice, DataChoice) else _KINDS.get(path, path)
            component_config(registry, kind, choice, path)
        except ConfigError as error:
            faults += str(error).splitlines()
    return faults


def chosen_components(experiment: Experiment) -> Iterator[tuple[str, str, Choice]]:
    """Path in the file, kind, and choice of every component of an experiment."""
    yield "data", data_kind(experiment.data), experiment.data
    yield "encoder", "encoder", experiment.encoder
    yield "decoder", "decoder", experiment.decoder
    lists: dict[str, tuple[Choice, ...]] = {
        "quantizer": experiment.quantizer,
        "loss": experiment.loss,
        "prior": experiment.prior,
    }
    for kind, choices in lists.items():
        for i, choice in enumerate(choices):
            yield (f"{kind}.{i}" if len(choices) > 1 else kind), kind, choice
    if experiment.adversarial is not None:
        yield "adversarial.discriminator", "discriminator", experiment.adversarial.discriminator
        yield "adversarial.loss", "adversarial-loss", experiment.adversarial.loss
    for name in experiment.evaluate.features:
        yield "evaluate.features", "features", Choice(use=name)


def data_kind(choice: DataChoice) -> str:
    """The kind of component that fills the data box: a set of signals, or a source of codes."""
    return "code-source" if choice.truth else "dataset"
