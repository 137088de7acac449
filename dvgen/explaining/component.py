"""One component: what its docstrings say, where it comes from, what may be set and how."""

import inspect
import shlex
import sys
from collections.abc import Mapping
from typing import Any

import attrs
from attrs import frozen

from dvgen.errors import ConfigError, PluginError
from dvgen.experiment import Adversarial, Choice
from dvgen.explaining.config_fields import ConfigField, fields_of
from dvgen.explaining.config_help import config_help
from dvgen.registry import Registry, Supplied

_PATHS = {
    "encoder": "encoder",
    "decoder": "decoder",
    "quantizer": "quantizer",
    "prior": "prior",
    "loss": "loss",
    "discriminator": "adversarial.discriminator",
    "adversarial-loss": "adversarial.loss",
    "dataset": "data",
    "code-source": "data",
}
"""The table of an experiment that holds the fields of a kind. Of features an experiment says only the names."""


@frozen(kw_only=True)
class ExplainedComponent:
    """A component in words.

    file: of its class. notes: what the docstring of its Config says beside its fields. path: the table of an experiment
    that holds the fields, None where they cannot be set. example: a command that uses it, with a field of it. waived_laws: of
    its contract, with the reasons.
    """

    kind: str
    name: str
    summary: str
    doc: str
    plugin: str
    distribution: str
    target: str
    file: str
    fields: tuple[ConfigField, ...]
    notes: tuple[str, ...]
    path: str | None
    example: str
    waived_laws: Mapping[str, str]


def explained_component(registry: Registry, kind: str, name: str) -> ExplainedComponent:
    """A component of any kind but recipe. Imports its class.

    Raises ConfigError for an unknown name, PluginError when the class cannot be imported or is not of its kind.
    """
    supplied = registry.find(kind, name)
    cls = registry.load(kind, name)
    config = _config(supplied, cls)
    fields = tuple(fields_of(config))
    return ExplainedComponent(
        kind=kind,
        name=name,
        summary=supplied.component.summary,
        doc=inspect.cleandoc(vars(cls).get("__doc__") or ""),
        plugin=supplied.plugin,
        distribution=supplied.distribution,
        target=supplied.component.target,
        file=str(sys.modules[cls.__module__].__file__),
        fields=fields,
        notes=config_help(config).notes,
        path=_PATHS.get(kind),
        example=" ".join([*_choosing(registry, supplied, cls), *_setting(kind, fields)]),
        waived_laws=_waived(supplied, cls),
    )


def _config(supplied: Supplied, cls: Any) -> type[Any]:
    """The Config of a class. Raises PluginError where there is none that can be read."""
    config = getattr(cls, "Config", None)
    if not (isinstance(config, type) and attrs.has(config)):
        target = supplied.component.target
        raise PluginError(f"{target} of plugin {supplied.plugin!r}: no nested attrs class Config, which says what may be set")
    return config


def _waived(supplied: Supplied, cls: Any) -> dict[str, str]:
    """The laws that a class waives. Raises PluginError where it says so wrongly."""
    from dvgen.contracts.waivers import waivers_of  # it imports torch

    try:
        return waivers_of(cls)
    except ConfigError as error:
        raise PluginError(f"{supplied.component.target} of plugin {supplied.plugin!r}: {error}") from None


def _choosing(registry: Registry, supplied: Supplied, cls: Any) -> list[str]:
    """The command that puts a component into its box."""
    kind, name = supplied.component.kind, supplied.component.name
    match kind:
        case "encoder" | "decoder":
            other = "decoder" if kind == "encoder" else "encoder"
            pair = [f"--{other} {name}"] if name in registry.names(other) else []
            return [f"dvgen train --{kind} {name}", *pair]
        case "dataset":
            return [f"dvgen train --data {name}{':DIR' if cls.located else ''}"]
        case "code-source":
            return [f"dvgen compare --data truth:{name}"]
        case "adversarial-loss":
            opponent: Choice = Adversarial().discriminator
            return [f"dvgen train --discriminator {opponent.use} --set {_PATHS[kind]}.use={name}"]
        case "features":
            return [f"dvgen train --set evaluate.features={name}"]
    return [f"dvgen train --{kind} {name}"]


def _setting(kind: str, fields: tuple[ConfigField, ...]) -> list[str]:
    """`--set` of the first field with a default, a number where there is one; parts are told on their own."""
    able = [field for field in fields if field.default is not None and not field.part] if kind in _PATHS else []
    able.sort(key=lambda field: field.type not in ("int", "float"))
    return [f"--set {shlex.quote(assignment(_PATHS[kind], field))}" for field in able[:1]]


def assignment(path: str, field: ConfigField) -> str:
    """What `--set` is told to give a field its default; of a part, to choose the component that fills it."""
    if field.part:
        return f"{path}.{field.name}.use={(field.default or field.part.upper()).partition(',')[0]}"
    return f"{path}.{field.name}={field.default}"
