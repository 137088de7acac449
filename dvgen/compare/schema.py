"""What a results.json of this version holds, as a JSON Schema (draft 2020-12), and reading one that does.

Keys that the schema does not name are allowed: a later version may add some without another schema number.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dvgen.errors import DataError, IntegrityError
from dvgen.training.folder import read_json

Schema = Mapping[str, Any]
SCHEMA, RESULTS = 2, "results.json"


def _object(required: Schema, optional: Schema | None = None) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _list(items: Schema, length: int | None = None) -> dict[str, Any]:
    return {"type": "array", "items": items} | ({} if length is None else {"minItems": length, "maxItems": length})


def _or_null(schema: Schema) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


_TEXT, _NUMBER, _FLAG, _TABLE = ({"type": name} for name in ("string", "number", "boolean", "object"))
_COUNT = {"type": "integer", "minimum": 0}
_POSITIVE = {"type": "integer", "minimum": 1}
_ENDS = _or_null(_list(_NUMBER, 2))
_MEASUREMENTS = {"type": "object", "additionalProperties": _reference("measurement")}
_NAMED = _object({"name": _TEXT, "measurements": _MEASUREMENTS})
_TRAINED: dict[str, Schema] = {
    "parameters": _COUNT,
    "train_seconds": _NUMBER,
    "steps": _NUMBER,  # a mean over repeats, in a row
    "budget_spent": _reference("spent"),
}

DEFINITIONS: Schema = {
    "measurement": _object(
        {"value": _NUMBER, "interval": _ENDS, "n": _POSITIVE, "key": _reference("key")},
        {"range": _ENDS},
    ),
    "key": _object(
        {
            "metric": _TEXT,
            "unit": _TEXT,
            "protocol": {"type": "object", "additionalProperties": _TEXT},
            "higher_is_better": _FLAG,
        }
    ),
    "spent": _object({"steps": _NUMBER, "codes": _NUMBER, "flops": _NUMBER, "seconds": _NUMBER}),
    "verification": _object(
        {
            "verified": _FLAG,
            "checks": _list(_object({"number": _TEXT, "name": _TEXT, "passed": _or_null(_FLAG), "detail": _TEXT})),
        }
    ),
    "tokenizer": _object(
        {
            "kind": {"enum": ["tokenizer", "truth"]},
            "name": _TEXT,
            "data": _TEXT,
            "images": {"type": "object", "additionalProperties": _COUNT},
            "codes": _TEXT,
            "levels": _list(_object({"name": _TEXT, "grid": _list(_POSITIVE), "num_codes": _POSITIVE})),
            "codes_per_image": _POSITIVE,
            "entropy_nats_per_image": _or_null(_NUMBER),
            "conditioning": _TEXT,
            "measurements": _MEASUREMENTS,
            "experiment": _TABLE,
        },
        {
            "encoder": _or_null(_TEXT),
            "location": _or_null(_TEXT),
            "folder": _or_null(_TEXT),
            "fingerprint": _or_null(_TEXT),
            "skipped": _list(_TEXT),
        }
        | {name: _or_null(schema) for name, schema in _TRAINED.items()},
    ),
    "repeat": _object(
        {"folder": _TEXT, "measurements": _MEASUREMENTS, "samples_per_second": _NUMBER, **_TRAINED},
        {"verification": _or_null(_reference("verification"))},
    ),
    "row": _object(
        {
            "prior": _TEXT,
            "budget": _TEXT,
            "experiment": _TABLE,
            "samples_per_second": _NUMBER,
            "ranked": _FLAG,
            "measurements": _MEASUREMENTS,
            "repeats": _list(_reference("repeat")),
            **_TRAINED,
        },
        {"verification": _or_null(_reference("verification"))},
    ),
    "verdict": _object(
        {
            "pair": _list(_TEXT, 2),
            "budget": _or_null(_TEXT),
            "difference": _or_null(_NUMBER),
            "interval": _ENDS,
            "unit": _TEXT,
            "verdict": _TEXT,
        },
        {"p": _or_null(_NUMBER), "p_holm": _or_null(_NUMBER), "better_on_image": _or_null(_NUMBER)},
    ),
    "group": _object(
        {
            "tokenizer": _reference("tokenizer"),
            "rows": _list(_reference("row")),
            "references": _list(_NAMED),
            "baselines": _list(_NAMED),
            "notes": _list(_TEXT),
            "verdicts": _list(_reference("verdict")),
        },
        {"fidelity": _or_null(_object({"winner": _or_null(_TEXT), "text": _TEXT}))},
    ),
}
RESULTS_SCHEMA: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "dvgen results",
    **_object(
        {
            "schema": {"const": SCHEMA},
            "created": _TEXT,
            "environment": _TABLE,
            "command": _list(_TEXT),
            "repeats": _POSITIVE,
            "intervals": _TEXT,
            "groups": _list(_reference("group")),
        }
    ),
    "$defs": DEFINITIONS,
}


def read_results(path: Path) -> dict[str, Any]:
    """The results of a comparison or of one run: of a folder, or of its results.json.

    Raises DataError when there are none or another version of dvgen wrote them, IntegrityError when they are damaged.
    """
    file = path / RESULTS if path.is_dir() else path
    if not file.is_file():
        raise DataError(
            f"{file}: missing; expected the folder of a finished `dvgen compare` or `dvgen evaluate`, or its {RESULTS}"
        )
    found = read_json(file)
    number = found.get("schema")
    if isinstance(number, int) and number < SCHEMA:
        raise DataError(
            f"{file}: schema {number}, made by an older dvgen; run the comparison's command again, finished rows are kept"
        )
    if isinstance(number, int) and number > SCHEMA:
        raise DataError(f"{file}: schema {number}, made by a newer dvgen; this one reads {SCHEMA}; update dvgen")
    check_results(found, str(file))
    return found


def check_results(results: object, source: str = RESULTS) -> None:
    """Raise IntegrityError with the place of the first fault of what should be a results document."""
    for place, fault in faults(results, RESULTS_SCHEMA):
        raise IntegrityError(f"{source}: {place or 'the document'}: {fault}; the file is damaged, or was not written by dvgen")


_KINDS: Mapping[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}


def faults(value: object, schema: Schema, place: str = "") -> Iterator[tuple[str, str]]:
    """(place, what is wrong) for everything in which a value does not fit a schema of the kind above, first things first."""
    if "$ref" in schema:
        schema = DEFINITIONS[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        tried = [list(faults(value, option, place)) for option in schema["anyOf"]]
        if all(tried):
            yield from tried[0]
        return
    if "type" in schema and not _is(value, schema["type"]):
        yield place, f"expected {schema['type']}, got {_shown(value)}"
        return
    yield from _scalar_faults(value, schema, place)
    if isinstance(value, dict):
        yield from _table_faults(value, schema, place)
    elif isinstance(value, list):
        yield from _list_faults(value, schema, place)


def _is(value: object, kind: str) -> bool:
    """Whether a value is of a JSON type: true is no number, and neither is NaN, which JSON does not know."""
    if isinstance(value, bool) and kind != "boolean":
        return False
    return isinstance(value, _KINDS[kind]) and not (isinstance(value, float) and not math.isfinite(value))


def _scalar_faults(value: Any, schema: Schema, place: str) -> Iterator[tuple[str, str]]:
    if "const" in schema and value != schema["const"]:
        yield place, f"expected {schema['const']!r}, got {_shown(value)}"
    if "enum" in schema and value not in schema["enum"]:
        yield place, f"expected one of {', '.join(schema['enum'])}, got {_shown(value)}"
    if "minimum" in schema and value < schema["minimum"]:
        yield place, f"expected at least {schema['minimum']}, got {value}"


def _table_faults(value: dict[str, object], schema: Schema, place: str) -> Iterator[tuple[str, str]]:
    known = schema.get("properties", {})
    for name, inner in known.items():
        if name in value:
            yield from faults(value[name], inner, _join(place, name))
        elif name in schema.get("required", ()):
            yield _join(place, name), "missing"
    if "additionalProperties" in schema:
        for name in sorted(value.keys() - known.keys()):
            yield from faults(value[name], schema["additionalProperties"], _join(place, name))


def _list_faults(value: list[object], schema: Schema, place: str) -> Iterator[tuple[str, str]]:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
        yield place, f"expected {schema['minItems']} items, got {len(value)}"
    for i, item in enumerate(value):
        yield from faults(item, schema.get("items", {}), _join(place, str(i)))


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
