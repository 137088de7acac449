"""Strict configuration: attrs classes from TOML tables, every fault reported at once. Imports no torch.

cattrs is lax by default (3.7 becomes 3, "false" becomes True, "12" becomes (1, 2)); here a value has the type that the
field says or it is a fault, and so is an unknown key.
"""

import json
import math
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import attrs
import cattrs
from cattrs.errors import ClassValidationError, IterableValidationError

from dvgen.errors import ConfigError
from dvgen.parts import Part, overlaid, stacked
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
    """The plain tables, lists and scalars of a config: what `structure` takes, and what JSON and TOML can hold.

    A Part is a table with `use` and its fields beside it.
    """
    return _plain(_CONVERTER.unstructure(config))


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
    """Apply one `--set a.b.c=VALUE` to a table in place; VALUE is TOML, and what is not TOML is a string.

    A number in the path picks an entry of a list, `quantizer.0.num_codes=64`; a list of one entry needs none.
    """
    path, equals, text = assignment.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        raise ConfigError(f"--set {assignment!r}: expected PATH=VALUE, such as prior.layers=8")
    place: Any = table
    for key in keys[:-1]:
        place, key = _place(place, key, assignment)
        if isinstance(place, dict):
            place.setdefault(key, {})
        place = place[key]
    place, key = _place(place, keys[-1], assignment)
    place[key] = _value(text.strip())


def _place(holder: Any, key: str, assignment: str) -> tuple[Any, Any]:
    """The table or list that holds `key`, and the key or index in it."""
    if isinstance(holder, list) and key.isdecimal():
        if int(key) >= len(holder):
            raise ConfigError(f"--set {assignment!r}: the list has {len(holder)} entries, counted from 0; there is no {key}")
        return holder, int(key)
    if isinstance(holder, list):
        if len(holder) != 1:
            raise ConfigError(f"--set {assignment!r}: {key!r} follows a list of {len(holder)}; put an index before it")
        return _place(holder[0], key, assignment)
    if not isinstance(holder, dict):
        raise ConfigError(f"--set {assignment!r}: {key!r} follows {holder!r}, which is not a table")
    return holder, key


def _value(text: str) -> Any:
    try:
        read = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return read["value"] if len(read) == 1 else text


def _structure(table: object, config: type, path: str, faults: list[str], given: object = None) -> Any:
    """`given`: the instance whose values stand for the keys that are left out; None for the defaults of the class."""
    before = len(faults)
    if not isinstance(table, Mapping):
        faults.append(f"{path + ': ' if path else ''}expected a table, got {table!r}")
        return None
    fields = {f.name: f for f in attrs.fields(attrs.resolve_types(config)) if f.init}  # type: ignore[arg-type, type-var]
    for key in table:
        if key not in fields:
            known = ", ".join(sorted(fields)) or "none"
            faults.append(f"{_join(path, key)}: unknown key{closest(str(key), fields)}; known: {known}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _field(table[name], field, _join(path, name), faults)
        elif given is not None:
            values[name] = getattr(given, name)
        elif field.default is attrs.NOTHING:
            faults.append(f"{_join(path, name)}: missing")
    if len(faults) > before:
        return None
    try:
        return config(**values)
    except Exception as error:  # a rule over several fields
        faults.append(f"{path + ': ' if path else ''}{_reason(error)}")
        return None


def _field(value: object, field: "attrs.Attribute[Any]", path: str, faults: list[str]) -> Any:
    before = len(faults)
    built = _built(value, field, path, faults)
    if len(faults) == before and field.validator is not None:
        try:
            field.validator(None, field, built)
        except AttributeError:
            pass  # a rule that looks at other fields: the constructor applies it, once all of them are known
        except Exception as error:
            faults.append(f"{path}: {_reason(error)}")
    return built


def _built(value: object, field: "attrs.Attribute[Any]", path: str, faults: list[str]) -> Any:
    kind = _one(field.type, value)
    if kind is Part and isinstance(value, Mapping):
        value = _part_table(value, field.default)
    if attrs.has(kind):
        return _structure(value, kind, path, faults, field.default if isinstance(field.default, kind) else None)
    element = _element(kind)
    if element is not None and isinstance(value, list | tuple):
        return tuple(_structure(item, element, f"{path}.{i}", faults) for i, item in enumerate(value))
    try:
        return _CONVERTER.structure(value, kind)
    except Exception as error:
        faults.append(f"{path}: {_reason(error)}")
        return None


def _part_table(value: Mapping[str, object], default: object) -> dict[str, object]:
    """The keys of a Part, from a table with `use` and fields beside it; the default stands for what is left out."""
    use, layers = stacked([value, unstructure(default)] if isinstance(default, Part) else [value])
    return {"fields": overlaid(layers)} | ({} if use is None else {"use": use})


def _one(kind: Any, value: object) -> Any:
    """X for a value of a field of type X | None that is not None; the type itself otherwise."""
    inner = [argument for argument in get_args(kind) if argument is not type(None)]
    optional = get_origin(kind) in (Union, UnionType) and len(inner) == 1
    return inner[0] if optional and value is not None else kind


def _element(kind: Any) -> Any:
    """The attrs class X of a field of type tuple[X, ...]; None for every other type."""
    found = get_args(kind)
    return found[0] if get_origin(kind) is tuple and found[1:] == (...,) and attrs.has(found[0]) else None


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _reason(error: BaseException) -> str:
    if isinstance(error, ClassValidationError | IterableValidationError):
        return "; ".join(_reason(inner) for inner in error.exceptions)
    # attrs puts the field and the value behind the text; only the text is for people
    return " ".join(str(error.args[0]).split()) if error.args else type(error).__name__


def _origin_is(origin: object) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) is origin


def _strict(wanted: type) -> Any:
    def hook(value: object, _: object) -> Any:
        if type(value) not in _ACCEPTED[wanted]:
            raise TypeError(f"expected {wanted.__name__}, got {value!r}")
        if isinstance(value, float) and not math.isfinite(value):  # JSON has no word for these
            raise ValueError(f"expected a finite number, got {value!r}")
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


def _table(value: object, _: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"expected a table, got {value!r}")
    return dict(value)


def _plain(value: Any) -> Any:
    """The same value with lists for tuples, so that it can be changed in place and equals its own JSON."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    for wanted in _ACCEPTED:
        converter.register_structure_hook(wanted, _strict(wanted))
    converter.register_structure_hook_factory(_origin_is(tuple), _tuple_hook)
    converter.register_structure_hook_func(_origin_is(Mapping), _table)
    converter.register_unstructure_hook(Part, lambda part: {"use": part.use, **converter.unstructure(dict(part.fields))})
    return converter


_CONVERTER = _converter()
