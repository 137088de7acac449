"""What has changed between two comparisons: paired where it can be, wide enough where not, refused where it means nothing."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats
from toy_results import LENGTH, Floats, document, drawn, fd, group, likelihood, measured, row, write_comparison

from dvgen.cli.diff import diff as command
from dvgen.compare.diff import Change, Difference, Refused, diff, told
from dvgen.compare.export import write_exports
from dvgen.compare.pairing import Entry
from dvgen.errors import DataError, IncomparableError, IntegrityError


def comparison(folder: Path, nats: dict[str, Floats], results: dict[str, Any] | None = None, *, exports: bool = True) -> Path:
    """The folder of a comparison, with the likelihoods of every image unless `exports` is False."""
    folder.mkdir()
    found = write_comparison(folder, nats, results)
    if exports:
        write_exports(folder, found)
    return folder


def file(path: Path, rows: list[dict[str, Any]], **tokenizer: Any) -> Path:
    """A document alone, without likelihoods of images."""
    path.write_text(json.dumps(document([group(rows, **tokenizer)])))
    return path


def change(found: Difference, name: str, entry: str = "gpt") -> Change:
    """The one change of that name."""
    (one,) = (one for one in found.changes if (one.entry.name, one.name) == (entry, name))
    return one


def test_one_repeat_is_paired_by_image_as_scipy_does(tmp_path: Path) -> None:
    """The paired t-test over images; the unpaired interval of the same values would be many times as wide."""
    a, b = drawn(1, seeds=1), drawn(2, seeds=1, mean=2.99)
    found = diff(comparison(tmp_path / "a", {"gpt": a}), comparison(tmp_path / "b", {"gpt": b}), common=False)
    expected = stats.ttest_rel(b[0, 0], a[0, 0])
    for name, scale in (("nll", 1 / LENGTH), ("bits_image", 1 / np.log(2))):
        one = change(found, name)
        assert one.pairing == "images"
        assert one.difference == pytest.approx((b - a).mean() * scale, rel=1e-9)
        assert one.interval == pytest.approx(np.array(expected.confidence_interval()) * scale, rel=1e-9)
        assert one.p == pytest.approx(expected.pvalue, rel=1e-6)
    alone = diff(file(tmp_path / "a.json", [row("gpt", a)]), file(tmp_path / "b.json", [row("gpt", b)]), common=False)
    wide, narrow = change(alone, "nll").interval, change(found, "nll").interval
    assert wide is not None
    assert narrow is not None
    assert wide[1] - wide[0] > 10 * (narrow[1] - narrow[0])


def test_several_repeats_are_paired_by_image_and_repeat(tmp_path: Path) -> None:
    """Where images are many, the interval is the t-interval of the repeats' differences, which pairing by repeat narrows."""
    seeds = np.random.default_rng(0).normal(0, 0.3, (3, 1, 1)) * LENGTH
    a, b = drawn(1, n=4000) + seeds, drawn(2, n=4000) + 0.9 * seeds
    found = diff(comparison(tmp_path / "a", {"gpt": a}), comparison(tmp_path / "b", {"gpt": b}), common=False)
    one = change(found, "nll")
    ends = np.array(stats.ttest_1samp((b - a).mean(axis=(1, 2)) / LENGTH, 0).confidence_interval())
    assert one.pairing == "images"
    assert one.interval == pytest.approx(ends, abs=0.01 * float(np.ptp(ends)))


def test_without_a_pairing_the_ends_are_combined_each_on_its_side(tmp_path: Path) -> None:
    """Zou and Donner: hypot of the distances that point the same way; for equal symmetric intervals sqrt(2) of one."""
    a = fd(2.0, (1.7, 2.4))
    b = fd(1.0, (0.9, 1.3))
    rows = [[row("gpt", drawn(1), **{"fd/rand": value})] for value in (a, b)]
    found = diff(file(tmp_path / "a.json", rows[0]), file(tmp_path / "b.json", rows[1]), common=False)
    one = change(found, "fd/rand")
    assert (one.pairing, one.verdict) == ("independent", "better")
    assert one.interval == pytest.approx((-1 - np.hypot(0.1, 0.4), -1 + np.hypot(0.3, 0.3)))


def test_combined_intervals_cover_what_they_promise(tmp_path: Path) -> None:
    """Two priors of equal mean, three and five repeats of unequal spread: 0 is inside at least 95 % of the time."""
    random = np.random.default_rng(5)
    trials, inside = 500, 0

    def over_repeats(values: Floats) -> dict[str, Any]:
        ends = values.mean() + np.array([-1, 1]) * stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
        return measured(float(values.mean()), "x", ends.tolist(), n=len(values))

    def rows(seeds: int, spread: float) -> list[dict[str, Any]]:
        one = row("gpt", drawn(1, seeds=seeds))
        found = [over_repeats(random.normal(0, spread, seeds)) for _ in range(trials)]
        return [one | {"prior": f"p{i}", "measurements": {"x": value}} for i, value in enumerate(found)]

    found = diff(file(tmp_path / "a.json", rows(3, 1.0)), file(tmp_path / "b.json", rows(5, 3.0)), common=False)
    for one in found.changes:
        if one.name == "x":
            assert one.interval is not None
            inside += one.interval[0] <= 0 <= one.interval[1]
            assert (one.p is not None and one.p > 0.05) == (one.interval[0] <= 0 <= one.interval[1])
    assert inside / trials > 0.94


def test_a_verdict_is_over_all_priors_together(tmp_path: Path) -> None:
    """Of ten priors one with p = 0.02 is no evidence (Holm: 0.2), and of one prior it is."""

    def rows(count: int, first: float) -> list[dict[str, Any]]:
        values = [first, *[2.0] * (count - 1)]
        return [row(f"p{i}", drawn(1), **{"fd/rand": fd(v, (v - 0.1, v + 0.1))}) for i, v in enumerate(values)]

    for count, verdict in ((1, "worse"), (10, "tie")):
        a, b = (file(tmp_path / f"{side}{count}.json", rows(count, first)) for side, first in (("a", 2.0), ("b", 2.23)))
        one = change(diff(a, b, common=False), "fd/rand", "p0")
        assert one.verdict == verdict
        assert one.p is not None
        assert one.p_holm == pytest.approx(min(1, one.p * count))
        assert 0.01 < one.p < 0.05


def test_better_is_what_the_key_says_and_turns_around_with_the_order(tmp_path: Path) -> None:
    extra = [
        {"up": measured(value, "up", (value - 0.1, value + 0.1), higher=True), "down": measured(value, "down", (value, value))}
        for value in (1.0, 2.0)
    ]
    a, b = (file(tmp_path / f"{i}.json", [row("gpt", drawn(1), **found)]) for i, found in enumerate(extra))
    there, back = diff(a, b, common=False), diff(b, a, common=False)
    assert [change(there, name).verdict for name in ("up", "down")] == ["better", "worse"]
    assert [change(back, name).verdict for name in ("up", "down")] == ["worse", "better"]
    assert change(back, "up").difference == -change(there, "up").difference == -1


def test_of_values_without_an_interval_nothing_is_claimed(tmp_path: Path) -> None:
    rows = [[row("gpt", drawn(1), **{"fd/rand": fd(value)})] for value in (1.0, 0.1)]
    found = diff(file(tmp_path / "a.json", rows[0]), file(tmp_path / "b.json", rows[1]), common=False)
    one = change(found, "fd/rand")
    assert (one.verdict, one.interval, one.p, one.p_holm) == ("unsure", None, None, None)


def test_a_comparison_is_equal_to_itself(tmp_path: Path) -> None:
    folder = comparison(tmp_path / "a", {"gpt": drawn(1), "pixelsnail": drawn(2)})
    found = diff(folder, folder / "results.json", common=False)
    assert {one.verdict for one in found.changes} == {"equal"}
    assert not [*found.refused, *found.only_a, *found.only_b]
    assert {one.entry.kind for one in found.changes} == {"tokenizer", "prior", "reference", "baseline"}


def test_what_was_measured_in_two_ways_is_refused_and_named(tmp_path: Path) -> None:
    a = file(tmp_path / "a.json", [row("gpt", drawn(1), **{"fd/rand": fd(1.0, gen="100")})])
    b = file(tmp_path / "b.json", [row("gpt", drawn(2), **{"fd/rand": fd(1.0, gen="500")})])
    with pytest.raises(IncomparableError) as caught:
        diff(a, b, common=False)
    assert caught.value.exit_code == 7
    first, last = str(caught.value).splitlines()
    assert first == "fd/rand of prior gpt steps:800: measured differently (protocol gen: 100 against 500)"
    assert "--common" in last
    found = diff(a, b, common=True)
    assert [one.name for one in found.refused] == ["fd/rand"]
    assert "nll" in {one.name for one in found.changes if one.entry.kind == "prior"}
    assert "fd/rand" not in {one.name for one in found.changes if one.entry.kind == "prior"}


def test_a_hash_is_told_by_its_beginning() -> None:
    """As the table shows it; sixty-four digits twice in a line hide what else there is."""
    entry = Entry("prior", "gpt", {})
    one, other = "ab" * 32, "cd" * 32
    (text,) = told([Refused("ema on shapes", entry, "nll", (f"protocol codes: {one} against {other}",))])
    assert text == "nll of prior gpt: measured differently (protocol codes: abababab against cdcdcdcd)"


def test_likelihoods_on_other_codes_never_meet_and_samples_may(tmp_path: Path) -> None:
    """Two tokenizers of one name: their codes differ, so NLL is refused in one line; distances to the same images are not."""
    a = document([group([row("gpt", drawn(1))])])
    b = document([group([row("gpt", drawn(2), codes="beef")], codes="beef")])
    for name, results in (("a", a), ("b", b)):
        (tmp_path / f"{name}.json").write_text(json.dumps(results))
    with pytest.raises(IncomparableError, match="nll, bits_image of prior gpt steps:800: measured") as caught:
        diff(tmp_path / "a.json", tmp_path / "b.json", common=False)
    assert "against beef" in str(caught.value)
    names = {one.name for one in diff(tmp_path / "a.json", tmp_path / "b.json", common=True).changes}
    assert {"fd/rand", "psnr"} <= names
    assert not names & {"nll", "bits_image", "usage/codes"}


def test_with_nothing_in_common_there_is_nothing_to_say(tmp_path: Path) -> None:
    a, empty = file(tmp_path / "a.json", [row("gpt", drawn(1))]), tmp_path / "empty.json"
    empty.write_text(json.dumps(document([])))
    for common in (True, False):
        with pytest.raises(IncomparableError, match="nothing in common"):
            diff(a, empty, common=common)
    with pytest.raises(DataError, match="missing"):
        diff(a, tmp_path / "nowhere", common=True)


def test_groups_meet_by_their_codes_and_rows_by_name_and_budget(tmp_path: Path) -> None:
    one, other = (
        group([row("gpt", drawn(1)), row("gpt", drawn(2), "steps:99")]),
        group([row("gpt", drawn(3), codes="beef")], "beef"),
    )
    more = copy.deepcopy(one)
    more["rows"] = [row("gpt", drawn(5), "steps:99"), row("gpt", drawn(4)), row("masked", drawn(6))]
    for name, groups in (("a", [one, other]), ("b", [other, more])):
        (tmp_path / f"{name}.json").write_text(json.dumps(document(groups)))
    found = diff(tmp_path / "a.json", tmp_path / "b.json", common=False)
    gaps = [one.difference * LENGTH for one in found.changes if one.name == "nll" and one.entry.kind == "prior"]
    assert gaps == pytest.approx([(drawn(b) - drawn(a)).mean() for a, b in ((1, 4), (2, 5), (3, 3))])
    assert not found.only_a
    assert list(found.only_b) == ["prior masked steps:800, of ema on shapes"]


def test_priors_of_one_name_meet_only_with_equal_settings(tmp_path: Path) -> None:
    """Two recipes may have a prior of one name and budget; which is which is known from their settings, or not at all."""
    rows = [row("gpt", drawn(i)) for i in range(3)]
    for layers, one in zip((2, 8, 9), rows, strict=True):
        one["experiment"] = {"prior": [{"use": "gpt", "layers": layers}]}
    a, b = file(tmp_path / "a.json", rows[:2]), file(tmp_path / "b.json", rows[1::-1])
    found = diff(a, b, common=False)
    assert [one.difference for one in found.changes if one.entry.kind == "prior" and one.name == "nll"] == [0, 0]
    found = diff(a, file(tmp_path / "c.json", [rows[0], rows[2]]), common=False)  # the others are each the only ones left
    assert [one.difference == 0 for one in found.changes if one.entry.kind == "prior" and one.name == "nll"] == [True, False]
    found = diff(a, file(tmp_path / "d.json", [rows[2]]), common=False)
    assert "prior" not in {one.entry.kind for one in found.changes}
    assert (len(found.only_a), len(found.only_b)) == (2, 1)


def test_a_level_and_the_excess_over_the_truth_are_paired_too(tmp_path: Path) -> None:
    """The source's own log-probability is the same in both, so the excess has the difference and the interval of the NLL."""
    tables = {side: np.concatenate([drawn(i), drawn(i + 5)], axis=1) for i, side in enumerate("ab")}
    folders = []
    for side, nats in tables.items():
        mean = float(nats.sum(axis=1).mean()) / LENGTH
        level = likelihood(nats[:, 1:])["nll"]
        one = row("gpt", nats, **{"nll/low": level, "excess": measured(mean - 1.5, "excess", (0.0, 9.0))})
        levels = [{"name": name, "grid": [4, 4], "num_codes": 64} for name in ("high", "low")]
        results = document([group([one], kind="truth", levels=levels)])
        folders.append(comparison(tmp_path / side, {"gpt": nats}, results))
    found = diff(*folders, common=False)
    gap = (tables["b"] - tables["a"]).mean(axis=(0, 2)) / LENGTH
    assert change(found, "nll/low").difference == pytest.approx(gap[1])
    assert change(found, "excess").difference == pytest.approx(gap.sum())
    assert {change(found, name).pairing for name in ("nll", "nll/low", "excess")} == {"images"}
    assert change(found, "excess").interval == pytest.approx(change(found, "nll").interval)


def test_likelihoods_of_images_that_belong_to_other_results_are_refused(tmp_path: Path) -> None:
    a, b = (comparison(tmp_path / name, {"gpt": drawn(i)}) for i, name in enumerate("ab"))
    (b / "per_image.npz").write_bytes((a / "per_image.npz").read_bytes())
    with pytest.raises(
        IntegrityError, match=r"gpt steps:800: the likelihoods in per_image\.npz are not those of results\.json"
    ):
        diff(a, b, common=False)
    c = comparison(tmp_path / "c", {"masked": drawn(0)})
    (b / "per_image.npz").write_bytes((c / "per_image.npz").read_bytes())
    with pytest.raises(IntegrityError, match="of other results"):
        diff(a, b, common=False)
    (b / "per_image.npz").write_bytes(b"PK but no zip")
    with pytest.raises(IntegrityError, match="damaged"):
        diff(a, b, common=False)


def test_likelihoods_beside_a_copy_of_results_are_not_taken_for_its_own(tmp_path: Path) -> None:
    """What stands beside a copy under another name may be of a later run in that folder."""
    a, b = (comparison(tmp_path / name, {"gpt": drawn(i)}) for i, name in enumerate("ab"))
    copied = (a / "results.json").rename(a / "old.json")
    assert change(diff(copied, b, common=False), "nll").pairing == "independent"


def test_unequal_numbers_of_repeats_are_not_paired(tmp_path: Path) -> None:
    a, b = (comparison(tmp_path / str(seeds), {"gpt": drawn(1, seeds=seeds)}) for seeds in (2, 3))
    assert change(diff(a, b, common=False), "nll").pairing == "independent"


def test_the_command_prints_tables_of_100_columns_or_one_document(tmp_path: Path) -> None:
    nats = {"gpt": drawn(1), "pixelsnail": drawn(2)}
    a = comparison(tmp_path / "a", nats)
    b = comparison(tmp_path / "b", {"gpt": drawn(3, mean=2.9), "pixelsnail": drawn(4), "masked": drawn(5)})
    run = CliRunner().invoke(command, [str(a), str(b)], catch_exceptions=False)
    assert run.exit_code == 0
    lines = run.output.splitlines()
    assert max(len(line) for line in lines if "/" not in line) <= 100
    (line,) = (line for line in lines if "nll nats/code" in line and "better" in line)
    mean = float((drawn(3, mean=2.9) - drawn(1)).mean()) / LENGTH
    assert f"{mean:+.4f}" in line
    assert "Equal in both: 15 of 19 values." in run.output
    assert "Only in B: prior masked steps:800, of ema on shapes." in run.output
    found = json.loads(CliRunner().invoke(command, [str(a), str(b), "--json"], catch_exceptions=False).output)
    assert (found["a"], found["schema"], len(found["changes"])) == (str(a), 1, 19)
    (nll,) = (one for one in found["changes"] if (one["name"], one["metric"]) == ("gpt", "nll"))
    assert nll["difference"] == pytest.approx(mean)
    assert nll["a"]["key"]["protocol"]["likelihood"] == "exact"
