"""What the codes themselves show: where in the grid they are hard to predict, and how often each is used."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from attrs import frozen
from markupsafe import Markup
from numpy.typing import NDArray

from dvgen.data.token_cache import TokenCache
from dvgen.errors import IntegrityError
from dvgen.report.chart import Axis, Chart, Point, curve, line
from dvgen.report.likelihood_tables import Rows
from dvgen.report.marks import Mark
from dvgen.report.pictures import Picture, heat_map

ASSESSMENT, POSITIONS, SAMPLES, CODES = "assessment", "per_position.npz", "samples.npz", "codes"
SPLIT = "test"
RANKS = 150
"""Points of one line of ranks, spaced evenly on its logarithmic axis."""

Arrays = Mapping[str, NDArray[Any]]


@frozen
class HeatMaps:
    """NLL by position in one level's grid: a picture a row on one scale from low to high nats, and words for each."""

    level: str
    low: float
    high: float
    maps: Sequence[tuple[Mark, Picture, str]]


def arrays(path: Path) -> Arrays:
    """The arrays of an .npz file, none without a file. Raises IntegrityError for one that is damaged."""
    try:
        with path.open("rb") as file:
            table = np.load(file, allow_pickle=False)
            return {name: table[name] for name in table.files}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, EOFError, AttributeError, BadZipFile):
        raise IntegrityError(f"{path}: damaged; assess the run again") from None


def heat_maps(folder: Path, rows: Rows, levels: Sequence[Mapping[str, Any]]) -> list[HeatMaps]:
    """Per level the mean nats at every position, over test images and repeats, of every row that has them.

    Raises IntegrityError for damaged files.
    """
    found = []
    for number, level in enumerate(levels):
        name = f"level_{number}"
        tables = []
        for row, mark in rows:
            read = [arrays(folder / repeat["folder"] / ASSESSMENT / POSITIONS) for repeat in row["repeats"]]
            if all(name in table for table in read):
                tables.append((mark, np.mean([_flat(table[name]) for table in read], axis=0)))
        if tables:
            low, high = min(float(t.min()) for _, t in tables), max(float(t.max()) for _, t in tables)
            maps = [(mark, heat_map(table, low, high), _told(table)) for mark, table in tables]
            found.append(HeatMaps(level["name"], low, high, maps))
    return found


def _flat(table: NDArray[Any]) -> NDArray[np.float64]:
    """A grid of any dimensions as (h, w): one row for sound, all but the last dimension below each other."""
    return np.asarray(table, dtype=np.float64).reshape(-1, table.shape[-1])


def _told(table: NDArray[np.float64]) -> str:
    row, column = np.unravel_index(int(table.argmax()), table.shape)
    where = f"row {row + 1}, column {column + 1}" if len(table) > 1 else f"position {column + 1}"
    return f"{table.min():.2f} to {table.max():.2f} nats, mean {table.mean():.2f}; highest at {where}"


def rank_charts(folder: Path, tokenizer: Mapping[str, Any], rows: Rows) -> list[Markup]:
    """Per level how often codes occur, by rank: held-out codes, and the samples of every row (its first repeat).

    Raises IntegrityError for damaged files; without a cache or samples there is nothing to show.
    """
    place = folder / tokenizer["folder"] / CODES
    if not place.is_dir():
        return []
    held_out = TokenCache.open(place).codes(SPLIT)
    samples = [(mark, arrays(folder / row["repeats"][0]["folder"] / ASSESSMENT / SAMPLES)) for row, mark in rows]
    charts = []
    for number, level in enumerate(tokenizer["levels"]):
        name = f"level_{number}"
        lines = [(mark, frequencies(table[name])) for mark, table in samples if name in table]
        if lines:
            charts.append(_ranks(level, frequencies(held_out[number].numpy()), lines))
    return charts


def frequencies(codes: NDArray[Any]) -> NDArray[np.float64]:
    """The share of every code that occurs, most frequent first."""
    counts = np.sort(np.unique(codes[codes >= 0], return_counts=True)[1])[::-1]
    return counts / counts.sum()


def _ranks(
    level: Mapping[str, Any], held_out: NDArray[np.float64], lines: Sequence[tuple[Mark, NDArray[np.float64]]]
) -> Markup:
    every = [_points(held_out), *(_points(shares) for _, shares in lines)]
    told = "; ".join(f"{mark.name}: {len(shares)} codes" for mark, shares in lines)
    chart = Chart(
        title=f"{level['name']}: how often codes occur, by rank",
        text=f"held-out: {len(held_out)} of {level['num_codes']} codes occur; {told}",
        across=Axis(
            f"rank of the code ({level['name']}, {level['num_codes']} codes)", [p.x for ps in every for p in ps], log=True
        ),
        up=Axis("share of all codes", [p.y for ps in every for p in ps], log=True),
    )
    drawn = [curve(chart, "reference", every[0], "held-out codes")]
    drawn += [line(chart, mark, points) for (mark, _), points in zip(lines, every[1:], strict=True)]
    return chart.svg(drawn)


def _points(shares: NDArray[np.float64]) -> list[Point]:
    ranks = np.unique(np.geomspace(1, len(shares), RANKS).round().astype(int))
    return [Point(float(rank), y, y, y) for rank, y in zip(ranks, shares[ranks - 1].tolist(), strict=True)]
