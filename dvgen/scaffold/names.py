"""The names that a new plugin has, from the one that its author gives. Imports no torch."""

import importlib.util
import re
from collections.abc import Iterator

from attrs import frozen

from dvgen.errors import ConfigError
from dvgen.registry import Registry, closest
from dvgen.scaffold.kinds import OUTLINES, TOGETHER, Outline, Part

LONGEST = 32
"""Letters of a name: with more, lines of the files would have to be broken elsewhere."""

OURS = {("prior", "autoregressive")}
"""Kinds and names whose class would be called like one of dvgen's that it derives from."""


@frozen
class Names:
    """Everything that is called after a component `name` of a new plugin of `kind`."""

    kind: str
    name: str

    @property
    def outline(self) -> Outline:
        """What a plugin of this kind consists of."""
        return OUTLINES[self.kind]

    @property
    def distribution(self) -> str:
        """The name that pip knows, and that of the folder."""
        return f"dvgen-{self.name}"

    @property
    def package(self) -> str:
        """The name that Python imports."""
        return self.distribution.replace("-", "_")

    @property
    def camel(self) -> str:
        """The name as classes are written: my-vq becomes MyVq."""
        return "".join(word.capitalize() for word in self.name.split("-"))

    @property
    def compare(self) -> tuple[str, ...]:
        """The commands that compare the component with what dvgen ships."""
        return tuple(command.format(name=self.name) for command in self.outline.compare)

    def target(self, part: Part) -> str:
        """Where the class of a component is, or the file of a recipe."""
        if part.kind == "recipe":
            return f"{self.package}:recipes/{self.name}.toml"
        return f"{self.package}.{part.module}:{self.camel}{part.suffix}"


def names_for(registry: Registry, kind: str, name: str) -> Names:
    """The names of a new plugin. Raises ConfigError for an unknown kind and for a name that cannot be used or is taken."""
    made = TOGETHER.get(kind, kind)
    if made not in OUTLINES:
        hint = f"; the kind comes first: dvgen new {name} {kind}" if name in OUTLINES else closest(kind, OUTLINES)
        raise ConfigError(f"no kind {kind!r}{hint}; known: {', '.join(OUTLINES)}")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > LONGEST:
        raise ConfigError(
            f"{name!r} cannot be a name: expected at most {LONGEST} small letters, digits and single hyphens, "
            "a letter first and no hyphen last, such as my-vq"
        )
    names = Names(made, name)
    for holder in _holders(registry, names):
        raise ConfigError(f"the name {name!r} is taken: {holder}; choose another name")
    return names


def _holders(registry: Registry, names: Names) -> Iterator[str]:
    """Who has one of these names already, in words."""
    kinds = {part.kind for part in names.outline.parts}
    for supplied in registry.supplied:
        if supplied.component.kind in kinds and supplied.component.name == names.name:
            who = f"plugin {supplied.plugin!r} of {supplied.distribution}"
            yield f"{who} supplies the {supplied.component.kind} {names.name!r}"
    if found := importlib.util.find_spec(names.package):
        yield f"Python finds a package {names.package} at {found.origin or 'a folder without __init__.py'}"
    suffix = names.outline.parts[0].suffix
    if suffix and names.camel.startswith("Test"):
        yield f"pytest takes the class {names.camel}{suffix} for tests"
    if (names.kind, names.name) in OURS:
        yield f"the class would be {names.camel}{suffix}, which dvgen has"
