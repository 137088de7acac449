"""What in one results document is the same thing as what in another."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from dvgen.compare.export import read_per_image
from dvgen.compare.schema import RESULTS, read_results
from dvgen.config import canonical
from dvgen.evaluation.measurement import Measurement

T = TypeVar("T")
Table = Mapping[str, Any]
Floats = NDArray[np.float64]


@frozen
class Entry:
    """Something that was measured. kind: tokenizer, prior, reference or baseline.

    settings: all that a prior was built from, as text. repeats: how many trainings the measurements are over.
    nats: (seeds, levels, images) where they are known.
    """

    kind: str
    name: str
    measurements: Mapping[str, Measurement]
    budget: str = ""
    settings: str = ""
    repeats: int = 1
    nats: Floats | None = field(default=None, eq=False, repr=False)

    @property
    def label(self) -> str:
        """What a person calls it."""
        return f"{self.name} {self.budget}" if self.budget else self.name


@frozen
class Group:
    """The entries on the codes of one tokenizer or source, which is the first of them."""

    about: Table
    entries: Sequence[Entry]

    @property
    def label(self) -> str:
        """What a person calls it."""
        return f"{self.about['name']} on {self.about['data']}" if self.about["kind"] == "tokenizer" else str(self.about["name"])


def open_groups(path: Path) -> list[Group]:
    """The groups of a comparison or a run: of its folder or of its results.json. Raises as `read_results` does.

    With a copy under another name the likelihoods of images are not looked for: what stands beside it may be of another.
    """
    results = read_results(path)
    folder = path if path.is_dir() else path.parent
    nats = read_per_image(folder, results) if path.is_dir() or path.name == RESULTS else [{} for _ in results["groups"]]
    return [Group(group["tokenizer"], list(_entries(group, own))) for group, own in zip(results["groups"], nats, strict=True)]


def _entries(group: Table, nats: Mapping[tuple[str, str], Floats]) -> Iterator[Entry]:
    tokenizer = group["tokenizer"]
    yield Entry("tokenizer", tokenizer["name"], _measurements(tokenizer))
    for row in group["rows"]:
        settings = canonical(row["experiment"].get("prior"))
        own = nats.get((row["prior"], row["budget"]))
        yield Entry("prior", row["prior"], _measurements(row), row["budget"], settings, len(row["repeats"]), own)
    for kind in ("reference", "baseline"):
        for one in group[f"{kind}s"]:
            yield Entry(kind, one["name"], _measurements(one))


def _measurements(table: Table) -> dict[str, Measurement]:
    return {name: Measurement.from_dict(value) for name, value in table["measurements"].items()}


def match_groups(one: Sequence[Group], other: Sequence[Group]) -> tuple[list[tuple[Group, Group]], list[Group], list[Group]]:
    """Pairs of groups, and those that are left of each: on equal codes; else of one name and data; else the only ones left."""
    names = ("kind", "name", "encoder", "data")
    keys: list[Callable[[Group], Hashable]] = [
        lambda group: group.about["codes"],
        lambda group: tuple(group.about.get(name) for name in names),
        lambda _: None,
    ]
    return matched(one, other, keys)


def match_entries(one: Group, other: Group) -> tuple[list[tuple[Entry, Entry]], list[Entry], list[Entry]]:
    """Pairs of entries, and those that are left of each: of equal name and budget, and of equal settings where several are."""
    plain: Callable[[Entry], Hashable] = lambda entry: (  # noqa: E731
        entry.kind,
        "" if entry.kind == "tokenizer" else entry.name,
        entry.budget,
    )
    return matched(one.entries, other.entries, [lambda entry: (plain(entry), entry.settings), plain])


def matched(
    one: Sequence[T], other: Sequence[T], keys: Sequence[Callable[[T], Hashable]]
) -> tuple[list[tuple[T, T]], list[T], list[T]]:
    """Pairs whose key is equal and the only such on either side, and what is left of each; the first key goes first."""
    pairs: list[tuple[T, T]] = []
    left, right = list(one), list(other)
    for key in keys:
        counts = Counter(map(key, left)), Counter(map(key, right))
        single = {k for k in counts[0] if counts[0][k] == counts[1][k] == 1}
        its = {key(item): item for item in right if key(item) in single}
        pairs += [(item, its[key(item)]) for item in left if key(item) in single]
        left, right = ([item for item in side if key(item) not in single] for side in (left, right))
    order = {id(item): i for i, item in enumerate(one)}
    return sorted(pairs, key=lambda pair: order[id(pair[0])]), left, right
