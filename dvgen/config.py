"""Strict configuration: attrs classes from TOML tables, every fault reported at once. Imports no torch.

cattrs is lax by default (3.7 becomes 3, "false" becomes True, "12" becomes (1, 2)); here a value has the type that the
field says or it is a fault, and so is an unknown key.
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_origin

import attrs
import cattrs
from cattrs.errors import ClassValidationError, IterableValidationError

from dvgen.errors import ConfigError
from dvgen.registry import closest

T = TypeVar("T")
_ACCEPTED: dict[type, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (float, int), str: (str,)}


def structure(table: Mapping[str, object], config: type[T], path: str = "") -> T:
    """Build `config` (an attrs class) from a table; raises ConfigError with one line a fault."""
    faults: list[str] = []
    built = _structure(table, config, path, faults)
    if faults:
        raise ConfigError("\n".join(faults))
    return built


def unstructure(config: object) -> Any:
    """The plain tables, lists and scalars of a config: what `structure` takes, and what JSON and TOML can hold."""
    return _CONVERTER.unstructure(config)


def canonical(value: object) -> str:
    """One text for one value: JSON with sorted keys and no spaces, for hashing and comparing."""
    return json.dumps(unstructure(value), sort_keys=True, separators=(",", ":"))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raises ConfigError with the place of a syntax fault."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no config file {path}; give the path of an experiment in TOML") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def override(table: dict[str, Any], assignment: str) -> None:
    """Apply one `--set a.b.c=VALUE` to a table in place; VALUE is TOML, and a bare word is a string.

    A number in the path picks an entry of a list: `quantizer.0.num_codes=64`.
    """
    path, equals, text = assignment.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {assignment!r}: expected PATH=VALUE, such as prior.layers=8")
    place: Any = table
    for key in keys[:-1]:
        place = _descend(place, key, assignment)
    if isinstance(place, list):
        place = _descend(place, "0", assignment) if not keys[-1].isdigit() else place
    place[int(keys[-1]) if isinstance(place, list) else keys[-1]] = _value(text.strip())


def _descend(place: Any, key: str, assignment: str) -> Any:
    if isinstance(place, list):
        if not key.isdigit():
            if len(place) != 1:
                raise ConfigError(f"--set {assignment!r}: {key!r} follows a list of {len(place)}; put an index before it")
            return _descend(place[0], key, assignment)
        if int(key) >= len(place):
            raise ConfigError(f"--set {assignment!r}: the list has {len(place)} entries, no {key}")
        return place[int(key)]
    if not isinstance(place, dict):
        raise ConfigError(f"--set {assignment!r}: {key!r} follows a value, not a table")
    return place.setdefault(key, {})


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _structure(table: object, config: type, path: str, faults: list[str]) -> Any:
    where = f"{path}: " if path else ""
    if not isinstance(table, Mapping):
        faults.append(f"{where}expected a table, got {table!r}")
        return None
    fields = {f.name: f for f in attrs.fields(attrs.resolve_types(config)) if f.init}  # type: ignore[arg-type, type-var]
    for key in table:
        if key not in fields:
            known = ", ".join(sorted(fields)) or "none"
            faults.append(f"{path + '.' if path else ''}{key}: unknown key{closest(str(key), fields)}; known: {known}")
    values: dict[str, Any] = {}
    before = len(faults)
    for name, field in fields.items():
        place = f"{path}.{name}" if path else name
        if name in table:
            values[name] = _field(table[name], field, place, faults)
        elif field.default is attrs.NOTHING:
            faults.append(f"{place}: missing")
    return config(**values) if len(faults) == before and not faults else None


def _field(value: object, field: "attrs.Attribute[Any]", path: str, faults: list[str]) -> Any:
    kind: Any = field.type
    if attrs.has(kind):
        return _structure(value, kind, path, faults)
    element = _element(kind)
    if element is not None and isinstance(value, list | tuple):
        return tuple(_structure(item, element, f"{path}.{i}", faults) for i, item in enumerate(value))
    try:
        built = _CONVERTER.structure(value, kind)
        if field.validator is not None:
            field.validator(None, field, built)
    except Exception as error:
        faults.append(f"{path}: {_reason(error)}")
        return None
    return built


def _element(kind: Any) -> Any:
    """The attrs class X of a field of type tuple[X, ...]; None for every other type."""
    found = kind.__args__[0] if get_origin(kind) is tuple else None
    return found if found is not None and attrs.has(found) else None


def _reason(error: BaseException) -> str:
    if isinstance(error, ClassValidationError | IterableValidationError):
        return "; ".join(_reason(inner) for inner in error.exceptions)
    text = str(error.args[0]) if error.args else type(error).__name__
    return text.split("\n")[0]


def _strict(wanted: type) -> Any:
    def hook(value: object, _: object) -> Any:
        if type(value) not in _ACCEPTED[wanted]:
            raise TypeError(f"expected {wanted.__name__}, got {value!r}")
        return wanted(value)

    return hook


def _tuple_hook(kind: Any) -> Any:
    inner = kind.__args__

    def hook(value: object, _: object) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise TypeError(f"expected a list, got {value!r}")
        if len(inner) == 2 and inner[1] is ...:
            return tuple(_CONVERTER.structure(v, inner[0]) for v in value)
        if len(value) != len(inner):
            raise TypeError(f"expected a list of {len(inner)}, got {len(value)}")
        return tuple(_CONVERTER.structure(v, t) for v, t in zip(value, inner, strict=True))

    return hook


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    for wanted in _ACCEPTED:
        converter.register_structure_hook(wanted, _strict(wanted))
    converter.register_structure_hook_factory(lambda kind: get_origin(kind) is tuple, _tuple_hook)
    converter.register_structure_hook_func(lambda kind: get_origin(kind) is Mapping, lambda value, _: dict(value))
    return converter


_CONVERTER = _converter()
