"""Parts of composed components: a field of a Config that names another component. Imports no torch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from attrs import Factory, field, frozen

from dvgen.errors import PluginError

_KIND = "dvgen.part"


@frozen(kw_only=True)
class Part:
    """The component that fills a part of another component: its name, and fields of its own Config."""

    use: str
    fields: Mapping[str, object] = Factory(dict)


def part(kind: str, *, use: str | None = None, **fields: object) -> Any:
    """Declare a part in a Config: `inner: Part = part("quantizer", use="ema", num_codes=256)`.

    The class receives, as keyword argument of the same name, a factory: each call makes a new instance of the part, and
    keyword arguments change fields of its Config. Without `use` there is no default: the experiment must name the part.
    Raises PluginError for fields without `use`.
    """
    if use is None and fields:
        raise PluginError(f"part({kind!r}): got {', '.join(sorted(fields))} without use=; name the component they belong to")
    default = attrs.NOTHING if use is None else Part(use=use, fields=fields)
    return field(default=default, metadata={_KIND: kind})


def parts(config_class: type) -> dict[str, str]:
    """The parts that a Config declares: field name to kind, in the order of the fields."""
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(config_class)
    return {f.name: f.metadata[_KIND] for f in fields if _KIND in f.metadata}


def stacked(tables: Iterable[object]) -> tuple[object, list[Mapping[str, object]]]:
    """What several tables of one part say together, the one that counts most first: its `use`, and its fields by table.

    A table without `use` speaks of the component that the next one names. Tables below that name another component do
    not count, nor does anything below what is no table. The `use` is None when no table that counts has one.
    """
    use: object = None
    layers: list[Mapping[str, object]] = []
    for table in tables:
        if not isinstance(table, Mapping) or (use is not None and table.get("use", use) != use):
            break
        use = table.get("use") if use is None else use
        layers.append({name: value for name, value in table.items() if name != "use"})
    return use, layers


def overlaid(layers: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """One table of several; where two have a key, the first counts."""
    return {name: value for layer in reversed(layers) for name, value in layer.items()}
