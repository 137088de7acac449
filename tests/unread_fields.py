"""Which fields of a config no code reads, found in the source: an option without effect."""

import ast
import inspect
import sys
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

import attrs

import dvgen
from dvgen.discovery import discover
from dvgen.experiment import Adversarial, Evaluation, Train, Training
from dvgen.parts import parts
from dvgen.registry import INTERFACES

TABLES = {
    Training: ("training",),
    Train: ("train",),
    Adversarial: ("settings", "game"),
    Evaluation: ("settings", "evaluate"),
}
"""Tables of an experiment, and what variables that hold one are called."""


def fields_read(source: str, holder: str = "config") -> set[str]:
    """Names read as `config.<name>` or `<anything>.config.<name>`, or of another holder."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            held = node.value
            name = held.id if isinstance(held, ast.Name) else held.attr if isinstance(held, ast.Attribute) else ""
            found |= {node.attr} if name == holder else set()
    return found


def source_of(cls: type[Any]) -> list[Path]:
    """The modules that a component is made of: its own, those of its bases and its config, and what these import of its
    package or of dvgen.blocks."""
    pending = [base.__module__ for kind in (cls, cls.Config) for base in kind.__mro__]
    packages, known = {name.partition(".")[0] for name in pending} - {"abc", "builtins", "dvgen", "torch"}, set()
    while pending:
        name = pending.pop()
        if name in known or not (name.partition(".")[0] in packages or name.startswith("dvgen.blocks.")):
            continue
        known.add(name)
        tree = ast.parse(inspect.getsource(sys.modules[name]))
        pending += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return [Path(str(sys.modules[name].__file__)) for name in sorted(known)]


def method_source(config: type[Any], name: str) -> str:
    """The source of a method or property of a config; nothing for anything else."""
    found = getattr(config, name, None)
    method = found.fget if isinstance(found, property) else found
    return textwrap.dedent(inspect.getsource(method)) if inspect.isfunction(method) else ""


def unread_fields(cls: type[Any]) -> set[str]:
    """Fields of a component's config that none of its modules reads; its parts are built for it, and it is given them."""
    read = set().union(*(fields_read(path.read_text()) for path in source_of(cls)))
    seen, pending = {"scaled"}, set(read)  # which makes another config of this one, and uses nothing
    while names := pending - seen:
        seen |= names
        pending = set().union(*(fields_read(source, "self") for source in map(partial(method_source, cls.Config), names)))
        read |= pending
    return {field.name for field in attrs.fields(cls.Config)} - read - parts(cls.Config).keys()


def configurable() -> list[tuple[str, str]]:
    """Kind and name of every registered component that has a config."""
    registry = discover().registry
    named = [(kind, name) for kind, interface in INTERFACES.items() if interface for name in registry.names(kind)]
    return [(kind, name) for kind, name in named if hasattr(registry.load(kind, name), "Config")]


def unread_settings() -> set[str]:
    """Fields of an experiment's tables that no module of dvgen reads of a variable by one of the names such a table has."""
    paths = [path for path in Path(dvgen.__path__[0]).rglob("*.py") if path.name != "experiment.py"]
    sources = [path.read_text() for path in paths]
    unread = set()
    for kind, holders in TABLES.items():
        read = set().union(*(fields_read(source, holder) for source in sources for holder in holders))
        unread |= {field.name for field in attrs.fields(kind)} - read
    return unread
