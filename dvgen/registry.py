"""What plugins supply: components by kind and name, looked up and imported on first use. Imports no torch."""

import difflib
import importlib
from collections.abc import Iterable
from typing import Any

from attrs import Factory, define, field, frozen
from attrs.validators import in_, matches_re

from dvgen.errors import ConfigError, PluginError

INTERFACES = {
    "encoder": "dvgen.interfaces.autoencoder:Encoder",
    "decoder": "dvgen.interfaces.autoencoder:Decoder",
    "quantizer": "dvgen.interfaces.quantizer:Quantizer",
    "discriminator": "dvgen.interfaces.discriminator:Discriminator",
    "loss": "dvgen.interfaces.loss:Loss",
    "adversarial-loss": "dvgen.interfaces.loss:AdversarialLoss",
    "prior": "dvgen.interfaces.prior:Prior",
    "dataset": "dvgen.interfaces.data:Dataset",
    "code-source": "dvgen.interfaces.data:CodeSource",
    "features": "dvgen.interfaces.features:Features",
    "recipe": None,
}
KINDS = tuple(INTERFACES)


@frozen
class Component:
    """All that a plugin says about one thing it supplies.

    `target` is "package.module:Class", imported when the component is first used; for a recipe it is "package:path.toml".
    """

    kind: str = field(validator=in_(KINDS))
    name: str = field(validator=matches_re(r"[a-z][a-z0-9-]*"))
    target: str = field(validator=matches_re(r"[\w.]+:[\w./-]+"))
    summary: str = field(validator=matches_re(r"[^\n]+"))


@frozen
class Supplied:
    """A component, and the plugin and distribution ("name version") that supply it."""

    component: Component
    plugin: str
    distribution: str


@frozen
class Failure:
    """A plugin that could not be admitted, and why."""

    plugin: str
    distribution: str
    reason: str


def closest(name: str, known: Iterable[str]) -> str:
    """The words `(did you mean 'x'?)` after a space, or the empty string when nothing known is near."""
    match = difflib.get_close_matches(name, sorted(known), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""


def describe(error: BaseException) -> str:
    """An exception as one line. attrs puts the field and the value behind the text; only the text is for people."""
    attrs_error = isinstance(error, TypeError | ValueError) and len(error.args) > 1 and isinstance(error.args[0], str)
    text = error.args[0] if attrs_error else str(error)
    return " ".join(f"{type(error).__name__}: {text}".split())


@define
class Registry:
    """Every component that the admitted plugins supply, and every plugin that failed."""

    supplied: list[Supplied] = Factory(list)
    failures: list[Failure] = Factory(list)

    def names(self, kind: str) -> list[str]:
        """The names known for a kind, sorted, each once."""
        return sorted({s.component.name for s in self.supplied if s.component.kind == kind})

    def find(self, kind: str, name: str) -> Supplied:
        """The one supplier of a name. Raises ConfigError when there is none, PluginError when there are several."""
        found = [s for s in self.supplied if (s.component.kind, s.component.name) == (kind, name)]
        if not found:
            raise ConfigError(self._unknown(kind, name))
        if len(found) > 1:
            who = " and ".join(f"plugin {s.plugin!r} of {s.distribution}" for s in found)
            raise PluginError(f"{kind} {name!r} is supplied twice: by {who}; uninstall one, or block one with -p no:PLUGIN")
        return found[0]

    def load(self, kind: str, name: str) -> Any:
        """Import and return the class that a name stands for.

        Raises ConfigError for an unknown name and PluginError when the class cannot be imported or is not of its kind.
        """
        supplied = self.find(kind, name)
        target = supplied.component.target
        who = f"{kind} {name!r} of plugin {supplied.plugin!r} ({supplied.distribution})"
        try:
            cls = resolve(target)
        except (Exception, SystemExit) as error:
            raise PluginError(f"{who} cannot be imported from {target}: {describe(error)}") from error
        interface = INTERFACES[kind]
        wanted = resolve(interface) if interface else object
        if not (isinstance(cls, type) and issubclass(cls, wanted)):
            raise PluginError(f"{who}: {target} is not a subclass of {interface}; derive it from that class")
        if missing := sorted(getattr(cls, "__abstractmethods__", ())):
            raise PluginError(f"{who}: {target} does not define {', '.join(missing)}, which {interface} asks for")
        return cls

    def _unknown(self, kind: str, name: str) -> str:
        known = self.names(kind)
        text = f"no {kind} named {name!r}{closest(name, known)}; known: {', '.join(known) or 'none'}"
        failed = "; ".join(f"plugin {f.plugin!r} ({f.distribution}) failed to load: {f.reason}" for f in self.failures)
        return f"{text}. {failed}" if failed else text


def resolve(target: str) -> Any:
    """The object that "package.module:attribute" names."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
