"""Reading results.json: what dvgen wrote is taken, and everything else is refused with the place of its fault."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from toy_results import document, drawn, group, row

from dvgen.compare.schema import DEFINITIONS, RESULTS_SCHEMA, check_results, faults, read_results
from dvgen.errors import DataError, DvgenError, IntegrityError

WHOLE = json.loads(json.dumps(document([group([row("gpt", drawn(1)), row("pixelsnail", drawn(2))])])))
TRUTH = {"kind": "truth", "name": "potts-8x8", "encoder": None, "folder": None, "parameters": None, "steps": None}


def put(path: str, value: object) -> dict[str, Any]:
    """WHOLE with one value replaced, or left out where `value` is ...; steps of the path are joined by dots."""
    changed = copy.deepcopy(WHOLE)
    place: Any = changed
    *steps, last = (int(step) if step.isdecimal() else step for step in path.split("."))
    for step in steps:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return changed


def test_a_whole_document_is_read_from_its_folder_and_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(WHOLE))
    assert read_results(tmp_path) == read_results(tmp_path / "results.json") == WHOLE


@pytest.mark.parametrize(
    "results",
    [
        document([group([row("gpt", drawn(1))], **TRUTH)]),  # a source of codes has no tokenizer to tell of
        document([]),
        put("later", {"a key of": "a later version"}),
        put("groups.0.rows.0.measurements.nll.interval", None),
        put("groups.0.rows.0.measurements.nll.value", 3),
        put("groups.0.fidelity", None),
    ],
)
def test_what_may_be_there_or_not_is_taken(results: dict[str, Any]) -> None:
    check_results(results)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("groups", ..., "missing"),
        ("groups", {}, "expected array, got {}"),
        ("repeats", 0, "expected at least 1, got 0"),
        ("repeats", True, "expected integer, got True"),
        ("command.1", 7, "expected string, got 7"),
        ("groups.0.tokenizer.kind", "codec", "expected one of tokenizer, truth, got 'codec'"),
        ("groups.0.tokenizer.levels.0.grid.1", 0, "expected at least 1, got 0"),
        ("groups.0.rows.1.measurements.nll.key", ..., "missing"),
        ("groups.0.rows.1.measurements.nll.value", "3", "expected number, got '3'"),
        ("groups.0.rows.1.measurements.nll.value", math.nan, "expected number, got nan"),
        ("groups.0.rows.1.measurements.nll.interval", [1.0], "expected 2 items, got 1"),
        ("groups.0.rows.1.measurements.nll.key.protocol.codes", 5, "expected str"),
        ("groups.0.rows.0.repeats.2.budget_spent.flops", ..., "missing"),
        ("groups.0.rows.0.verification.checks.0.passed", "yes", "expected boolean"),
        ("groups.0.baselines.0.name", ..., "missing"),
    ],
)  # fmt: skip
def test_the_first_fault_is_told_with_its_place(tmp_path: Path, path: str, value: object, told: str) -> None:
    (tmp_path / "results.json").write_text(json.dumps(put(path, value)))
    with pytest.raises(IntegrityError) as caught:
        read_results(tmp_path)
    assert f"results.json: {path}: {told}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        (None, DataError, "missing; expected the folder of a finished"),
        ("{", IntegrityError, "not JSON"),
        ("[]", IntegrityError, "not a JSON object"),
        ("{}", IntegrityError, "schema: missing"),
        ('{"schema": "2"}', IntegrityError, "schema: expected 2, got '2'"),
        (
            '{"schema": 1, "groups": []}',
            DataError,
            "made by an older dvgen; run the comparison's command again, finished rows are",
        ),
        ('{"schema": 3, "groups": []}', DataError, "made by a newer dvgen"),
    ],
)
def test_files_that_are_no_results_of_this_version_are_refused(
    tmp_path: Path, text: str | None, error: type[DvgenError], told: str
) -> None:
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(error, match=told) as caught:
        read_results(tmp_path)
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)


def test_the_schema_uses_nothing_that_the_checker_does_not_know() -> None:
    """A keyword of JSON Schema that is not implemented here would be a rule that nobody keeps."""
    known = {"type", "required", "properties", "additionalProperties", "items", "minItems", "maxItems", "minimum"}
    known |= {"const", "enum", "anyOf", "$ref"}

    def check(schema: dict[str, Any]) -> None:
        assert schema.keys() <= known
        assert "$ref" not in schema or schema["$ref"].removeprefix("#/$defs/") in DEFINITIONS
        parts = [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]
        parts += [schema[name] for name in ("additionalProperties", "items") if name in schema]
        for part in parts:
            check(part)

    for definition in DEFINITIONS.values():
        check(definition)
    check({name: part for name, part in RESULTS_SCHEMA.items() if name not in ("$schema", "title", "$defs")})
    assert json.loads(json.dumps(RESULTS_SCHEMA)) == RESULTS_SCHEMA  # it can be given away as a file


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("number", [1, -0.5], [True, "1", None, math.inf]),
        ("integer", [0, 7], [1.0, False]),
        ("boolean", [True], [1, None]),
        ("null", [None], [0, ""]),
        ("string", [""], [b"x", None]),
        ("array", [[]], [(), {}]),
        ("object", [{}], [[]]),
    ],
)
def test_the_types_are_those_of_json(kind: str, good: list[Any], bad: list[Any]) -> None:
    assert not any(list(faults(value, {"type": kind})) for value in good)
    assert all(list(faults(value, {"type": kind})) for value in bad)
