"""Results for other programs, beside results.json: one value a line, learning curves, and the likelihood of every image.

* results.csv: one value a line, of every repeat and of all repeats together (then `seed` is empty); `key` is the name of
  its protocol in keys.json. `seed` counts the repeats of a row, in the order of results.json.
* curves.csv: one logged step a line, of tokenizers and of priors.
* per_image.npz: for group number i (in the order of results.json) `group_i_nats` (priors, seeds, images), summed over
  levels, and `group_i_level_nats` (priors, seeds, levels, images); their names in `group_i_priors`, `group_i_budgets`,
  `group_i_levels`; `group_i_codes`, the identity of the codes; `group_i_codes_per_image`, to divide by.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvgen.config import canonical
from dvgen.errors import IntegrityError
from dvgen.evaluation.pixels import write_arrays
from dvgen.sealed import write_json, write_text

Results = Mapping[str, Any]
Floats = NDArray[np.float64]
TABLE, KEYS, CURVES, PER_IMAGE = "results.csv", "keys.json", "curves.csv", "per_image.npz"
EXPORTS = (TABLE, KEYS, CURVES, PER_IMAGE)
COLUMNS = (
    "group", "data", "tokenizer", "codes", "kind", "name", "seed", "budget_axis", "budget_value", "metric",
    "value", "low", "high", "range_low", "range_high", "n", "unit", "key",
)  # fmt: skip
CURVE_COLUMNS = (
    "group", "stage", "name", "budget", "seed", "step", "codes", "flops", "seconds", "loss", "validation",
)  # fmt: skip
LOGGED = CURVE_COLUMNS[CURVE_COLUMNS.index("step") :]
"""What is taken from each line of metrics.jsonl, empty where the line has none."""


def write_exports(folder: Path, results: Results) -> None:
    """Write every file above into the folder of a comparison, each in one act.

    Raises IntegrityError when the assessment of a row is not there.
    """
    keys: dict[str, Any] = {}
    write_text(folder / TABLE, _csv(COLUMNS, _values(results, keys)))
    write_json(folder / KEYS, keys)
    write_text(folder / CURVES, _csv(CURVE_COLUMNS, _curves(folder, results)))
    write_arrays(folder / PER_IMAGE, _per_image(folder, results))


def key_hash(key: Results) -> str:
    """A short name of a key: the first 12 digits of its hash."""
    return hashlib.sha256(canonical(key).encode()).hexdigest()[:12]


def read_per_image(folder: Path, results: Results) -> list[dict[tuple[str, str], Floats]]:
    """For each group of a comparison nats (seeds, levels, images) by prior and budget; nothing where there is no such file.

    Raises IntegrityError when the file is damaged, or belongs to other results.
    """
    path = folder / PER_IMAGE
    if not path.is_file():
        return [{} for _ in results["groups"]]
    found = []
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for i, group in enumerate(results["groups"]):
                names = list(zip(*(arrays[f"group_{i}_{name}"].tolist() for name in ("priors", "budgets")), strict=True))
                own = arrays[f"group_{i}_codes"].item(), names
                if own != (group["tokenizer"]["codes"], [(row["prior"], row["budget"]) for row in group["rows"]]):
                    raise IntegrityError(
                        f"{path}: is of other results than those beside it; run the comparison's command again"
                    )
                found.append(dict(zip(names, arrays[f"group_{i}_level_nats"], strict=True)))
    except (KeyError, ValueError, OSError) as error:
        raise IntegrityError(f"{path}: damaged: {error}; run the comparison's command again") from None
    return found


def _per_image(folder: Path, results: Results) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for i, group in enumerate(results["groups"]):
        rows, tokenizer = group["rows"], group["tokenizer"]
        nats = np.stack([np.stack([_nats(folder / repeat["folder"]) for repeat in row["repeats"]]) for row in rows])
        own = {
            "nats": nats.sum(axis=2),
            "level_nats": nats,
            "priors": np.array([row["prior"] for row in rows]),
            "budgets": np.array([row["budget"] for row in rows]),
            "levels": np.array([level["name"] for level in tokenizer["levels"]]),
            "codes": np.array(tokenizer["codes"]),
            "codes_per_image": np.array(tokenizer["codes_per_image"]),
        }
        arrays |= {f"group_{i}_{name}": array for name, array in own.items()}
    return arrays


def _nats(folder: Path) -> Floats:
    """Nats (levels, images) of one assessed prior."""
    path = folder / "assessment" / "per_image.npz"
    if not path.is_file():
        raise IntegrityError(f"{path}: missing, so this row was never assessed; run the comparison's command again")
    with np.load(path, allow_pickle=False) as arrays:
        nats: Floats = arrays["nats"]
    return nats


def _values(results: Results, keys: dict[str, Any]) -> Iterator[list[object]]:
    """The lines of results.csv; the key of each is put into `keys`."""
    for i, group in enumerate(results["groups"]):
        tokenizer = group["tokenizer"]
        about = [i, tokenizer["data"], tokenizer["name"], tokenizer["codes"]]
        for (kind, name, seed, budget), measurements in _measured(group):
            axis, _, amount = budget.partition(":")
            for metric, found in measurements.items():
                keys[key_hash(found["key"])] = found["key"]
                ends = [*(found["interval"] or ("", "")), *(found.get("range") or ("", ""))]
                yield [*about, kind, name, seed, axis, amount, metric, found["value"], *ends, found["n"], found["key"]["unit"],
                       key_hash(found["key"])]  # fmt: skip


def _measured(group: Results) -> Iterator[tuple[tuple[str, str, object, str], Results]]:
    """Everything measured in a group: (kind, name, seed, budget) and its measurements."""
    yield ("tokenizer", group["tokenizer"]["name"], "", ""), group["tokenizer"]["measurements"]
    for row in group["rows"]:
        yield ("prior", row["prior"], "", row["budget"]), row["measurements"]
        for seed, repeat in enumerate(row["repeats"]):
            yield ("prior", row["prior"], seed, row["budget"]), repeat["measurements"]
    for kind in ("reference", "baseline"):
        for one in group[f"{kind}s"]:
            yield (kind, one["name"], "", ""), one["measurements"]


def _curves(folder: Path, results: Results) -> Iterator[list[object]]:
    """The lines of curves.csv."""
    for i, group in enumerate(results["groups"]):
        tokenizer = group["tokenizer"]
        if tokenizer.get("folder"):
            for logged in _logged(folder / tokenizer["folder"]):
                yield [i, "tokenizer", tokenizer["name"], "", "", *logged]
        for row in group["rows"]:
            for seed, repeat in enumerate(row["repeats"]):
                for logged in _logged(folder / repeat["folder"]):
                    yield [i, "prior", row["prior"], row["budget"], seed, *logged]


def _logged(folder: Path) -> Iterator[list[object]]:
    """The logged steps of a training; none where nobody wrote them down, and a line that was torn by a crash is left out."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "step" in record and "notice" not in record:
            yield [record.get(name, "") for name in LOGGED]


def _csv(columns: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(lines)
    return text.getvalue()
