"""The likelihood of every level by itself: its numbers add up, a bound says that it is one, and the table can be read."""

import io
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from rich.console import Console
from toy_runs import dvgen, settings

from dvgen.compare.results import Group, Repeat, merged_repeats
from dvgen.compare.verdicts import Contestant, verdicts
from dvgen.evaluation.measurement import Measurement
from dvgen.evaluation.nll import LikelihoodProtocol, likelihoods
from dvgen.evaluation.statistics import seeds_interval
from dvgen.interfaces.codes import Level
from dvgen.report.table import WIDTH, show_results
from dvgen.training.meter import Spent
from dvgen.verify.checks import Verification

NAMES = ("top", "middle", "bottom", "finest", "5th")


def levels(count: int) -> tuple[Level, ...]:
    """Levels of 4, 16, 64, ... codes."""
    return tuple(Level(name, (2 << i, 2 << i), 8) for i, name in enumerate(NAMES[:count]))


def repeat(count: int, *, bounds: tuple[str, ...] = (), seed: int = 0, images: int = 5) -> Repeat:
    """A prior measured on random nats of three images or more."""
    lengths = np.array([level.length for level in levels(count)])
    nats = np.random.default_rng(seed).uniform(0.5, 1.5, (count, images)) * lengths[:, None]
    protocol = LikelihoodProtocol(codes="c", split="test", bounds=frozenset(bounds))
    return Repeat(Path("x"), 1, likelihoods(nats, levels(count), protocol), nats, Spent(), 1.0, Verification(()))


def merged_over(repeats: list[Repeat], count: int) -> dict[str, Measurement]:
    """What `merged_repeats` makes of them; of a group it asks its levels, and whether signals or a source are known."""
    subject = SimpleNamespace(cache=SimpleNamespace(levels=levels(count)), values=None, truth=None)
    return merged_repeats(cast(Group, SimpleNamespace(subject=subject)), repeats)


def contestant(name: str, found: Repeat) -> Contestant:
    return Contestant(name, "steps:1", found.measurements, [found.nats.sum(axis=0)], [found.measurements], "")


def group(count: int, rows: dict[str, Repeat]) -> dict[str, Any]:
    """A group of results as `results.json` holds it, with two baselines."""
    codebook = {f"{kind}/{level.name}": value(0.5) for level in levels(count) for kind in ("usage", "perplexity")}
    tokenizer = {
        "kind": "tokenizer", "name": "ema", "encoder": "vqvae2", "data": "shapes", "location": None, "images": {"test": 5},
        "codes": "abcdef0123", "conditioning": "none", "parameters": 12345, "steps": 600, "train_seconds": 61.4,
        "entropy_nats_per_image": None, "codes_per_image": 20, "skipped": [],
        "measurements": {"psnr": value(23.0)} | codebook,
        "levels": [{"name": level.name, "grid": list(level.grid), "num_codes": level.num_codes} for level in levels(count)],
        "experiment": {"decoder": {"use": "vqvae2"}, "loss": [{"use": "mse"}], "train": {"tokenizer": {"ema": 0.0}}},
    }  # fmt: skip
    return {
        "tokenizer": tokenizer,
        "rows": [row(name, found) for name, found in rows.items()],
        "references": [],
        "baselines": [row(name, repeat(count, seed=9)) for name in ("unigram", "left+up")],
        "notes": [],
        "verdicts": [],
        "fidelity": {"winner": None, "text": ""},
    }


def value(number: float) -> dict[str, Any]:
    return {"value": number, "interval": None, "n": 5, "key": {"metric": "x", "unit": "x", "protocol": {}}}


def row(name: str, found: Repeat) -> dict[str, Any]:
    own = {
        "prior": name, "name": name, "budget": "steps:1", "ranked": True, "verification": {"verified": True, "checks": []},
        "parameters": 1, "train_seconds": 1.0, "samples_per_second": 1.0,
    }  # fmt: skip
    return own | {"measurements": {key: measured.to_dict() for key, measured in found.measurements.items()}}


def shown(*groups: dict[str, Any], width: int = WIDTH) -> str:
    console = Console(file=io.StringIO(), width=width)
    show_results({"groups": list(groups), "intervals": "95 %"}, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def table(text: str) -> list[str]:
    """The lines of the tables by level."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if "by level" in line) - 1
    after = next(i for i, line in enumerate(lines) if i > start and line and not line.startswith(" "))
    return lines[start:after]


def cells(text: str, name: str) -> list[str]:
    """The words after a name in the table by level."""
    return next(line.split()[1:] for line in table(text) if line.split()[:1] == [name])


def test_every_prior_and_baseline_has_each_level_and_the_sum() -> None:
    found = repeat(2)
    text = shown(group(2, {"gpt": found}))
    mean = {name: measured.value for name, measured in found.measurements.items()}
    assert mean["bits_image/top"] + mean["bits_image/middle"] == pytest.approx(mean["bits_image"])
    words = cells(text, "gpt")
    numbers = [f"{mean[name]:.{digits}f}" for name, digits in (
        ("nll/top", 4), ("bits_image/top", 1), ("nll/middle", 4), ("bits_image/middle", 1), ("nll", 4), ("bits_image", 1)
    )]  # fmt: skip
    assert [word for word in words if not word.startswith("±")] == numbers
    assert len([word for word in words if word.startswith("±")]) == 2
    assert cells(text, "unigram")
    assert cells(text, "left+up")
    assert "by level" not in shown(group(1, {"gpt": repeat(1)}))


def test_rows_stand_in_the_order_of_the_sum_and_bounds_last() -> None:
    own = group(2, {"poor": repeat(2), "masked": repeat(2, bounds=("middle",)), "good": repeat(2)})
    for name, nll in (("poor", 3.0), ("masked", 1.0), ("good", 2.0)):
        next(entry for entry in own["rows"] if entry["prior"] == name)["measurements"]["nll"]["value"] = nll
    firsts = [line.split()[0] for line in table(shown(own)) if line.split()]
    assert [name for name in firsts if name in ("good", "poor", "masked")] == ["good", "poor", "masked"]


def test_a_bound_is_marked_at_its_level_and_at_the_sum_and_nowhere_else() -> None:
    text = shown(group(3, {"mixed": repeat(3, bounds=("middle",))}))
    marked = [i for i, word in enumerate(word for word in " ".join(cells(text, "mixed")).replace("<= ", "<=").split())
              if word.startswith("<=")]  # fmt: skip
    assert marked == [2, 3, 6, 7]  # of top, middle, bottom and all: nats/code and bits/image each


def test_a_bound_is_never_ranked_with_what_is_exact() -> None:
    exact, bound = repeat(2), repeat(2, bounds=("top",))
    (verdict,) = verdicts([contestant("gpt", exact), contestant("masked", bound)])
    assert verdict["difference"] is None
    assert "likelihood: exact against bound" in verdict["verdict"]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("bounds", [(), NAMES])
def test_two_and_three_levels_fit_the_width_of_a_report(count: int, bounds: tuple[str, ...]) -> None:
    """With names and numbers as long as they become: five digits before the point in bits, PixelSNAIL at every level."""
    own = group(count, {"+".join(f"{name}=pixelsnail" for name in NAMES[:count]): repeat(count, bounds=bounds)})
    for entry in (*own["rows"], *own["baselines"]):
        for name in entry["measurements"]:
            if name.startswith("bits_image"):
                entry["measurements"][name]["value"] = 34567.8
    lines = table(shown(own))
    assert max(map(len, lines)) <= WIDTH
    assert not any("…" in line for line in lines)
    for name in NAMES[:count]:
        assert any(f"{name}=pixelsnail" in line for line in lines)


def test_more_levels_have_several_tables_and_each_of_them_stands_once() -> None:
    lines = table(shown(group(5, {"gpt": repeat(5)})))
    heads = " ".join(lines).split()
    assert heads.count("level") == 2
    assert [heads.count(name) for name in NAMES] == [1] * 5
    assert heads.count("levels") == 1


def test_repeats_give_every_level_its_mean_and_an_interval_over_images_and_repeats() -> None:
    both = [repeat(2, seed=0), repeat(2, seed=1)]
    merged = merged_over(both, 2)
    for i, level in enumerate(levels(2)):
        for name, scale in ((f"nll/{level.name}", 1 / level.length), (f"bits_image/{level.name}", 1 / math.log(2))):
            mean, interval = seeds_interval([one.nats[i] * scale for one in both])
            assert merged[name].value == pytest.approx(mean)
            assert merged[name].interval == pytest.approx(interval)
            assert merged[name].n == 5
    assert merged["bits_image/top"].value + merged["bits_image/middle"].value == pytest.approx(merged["bits_image"].value)


def test_a_level_that_costs_nothing_is_merged_too() -> None:
    both = [repeat(2, seed=0), repeat(2, seed=0)]
    for one in both:
        one.nats[0] = 0.0
    free = [
        Repeat(
            Path("x"),
            1,
            likelihoods(one.nats, levels(2), LikelihoodProtocol(codes="c", split="t")),
            one.nats,
            Spent(),
            1.0,
            Verification(()),
        )
        for one in both
    ]
    merged = merged_over(free, 2)
    assert (merged["nll/top"].value, merged["bits_image/top"].value) == (0.0, 0.0)


def test_a_comparison_over_two_levels_carries_bounds_from_the_priors_to_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`masked` gives a bound of its own level only; with it the sum is one, and is not ranked with the exact sum."""
    made = [
        "--metric",
        "fd-rand",
        "--encoder",
        "vqvae2",
        "--decoder",
        "vqvae2",
        "--prior",
        "top=gpt+bottom=masked,top=gpt+bottom=gpt",
    ]
    assert (
        dvgen("compare", "--out", str(tmp_path / "run"), *made, *settings("encoder.downsample=4", "decoder.downsample=4")) == 0
    )
    (found,) = json.loads((tmp_path / "run" / "results.json").read_text())["groups"]
    bound, exact = (entry["measurements"] for entry in found["rows"])
    kinds = {name: measured["key"]["protocol"].get("likelihood") for name, measured in bound.items()}
    assert {name for name, kind in kinds.items() if kind == "exact"} == {"nll/top", "bits_image/top"}
    assert {measured["key"]["protocol"].get("likelihood") for measured in exact.values()} <= {"exact", None}
    counted = [one["measurements"] for one in found["baselines"] if one["name"] != "lzma"]  # a file has no levels
    for measured in (bound, exact, *counted):
        parts = measured["bits_image/top"]["value"] + measured["bits_image/bottom"]["value"]
        assert parts == pytest.approx(measured["bits_image"]["value"])
    (verdict,) = found["verdicts"]
    assert verdict["difference"] is None
    assert "exact" in verdict["verdict"]
    assert "bound" in verdict["verdict"]
    assert "all levels" in capsys.readouterr().out
