"""What a person sees of a comparison: every row and every number, whole, in the words of their protocol; and its verdicts."""

import itertools
import re

import pytest
from result_documents import ROWS, VERDICT, measured, named, results, row, shown, verdict, words

from dvgen.report.table import WIDTH


def test_every_row_baseline_and_verdict_is_shown_best_first() -> None:
    text = shown(results(ROWS))
    order = ("gpt", "pixelsnail", "uniform", "unigram", "left", "left+up", "four", "lzma")
    assert named(text, *order) == list(order)
    assert words(text, "gpt")[:12] == [
        "1.23M",
        "2.0000",
        "±0.2500",
        "-",
        "1",
        "✓",
        "61",
        "0.0123",
        "±0.0010",
        "56",
        "-",
        "pixelsnail:",
    ]
    assert words(text, "pixelsnail") == [
        "1.23M",
        "2.5000",
        "±0.2500",
        "+0.5000",
        "±0.1000",
        "2",
        "✓",
        "61",
        "0.0123",
        "±0.0010",
        "56",
    ]
    assert words(text, "four neighbours") == ["3.3000"]
    told = (
        "gpt - pixelsnail: -0.5000 nats/code [-0.6000, -0.4000], paired; p = 0.012 (Holm); gpt lower on 88% of images: gpt is"
    )
    assert told in text.replace("\n", " ")
    assert "95 %, over test images" in text
    assert "budget steps:800" in text
    assert max(map(len, text.splitlines())) <= WIDTH


def test_a_column_without_values_is_not_shown() -> None:
    text = shown(results(ROWS))
    assert "excess" not in text
    assert "FID" not in text
    assert "rank" in text
    alone = shown(results([row("gpt", 2.0)]))
    for column in ("rank", "above the best", "FD"):
        assert column not in alone
    assert "excess" in shown(results([row("gpt", 2.0, excess=measured(0.5, "excess", (0.25, 0.75)))]))


def test_files_are_at_most_as_long_as_said_and_so_marked() -> None:
    assert words(shown(results(ROWS)), "lzma") == ["<=", "4.0000"]


def test_ranks_are_those_of_the_verdicts_and_ties_share_one() -> None:
    """a and b tie, b and c tie, a beats c: c is third of nobody, but second after a."""
    rows = [row(name, nll) for name, nll in (("c", 2.2), ("b", 2.1), ("a", 2.0), ("d", 2.5))]
    verdicts = [
        verdict("c", "b", 0.1, "tie"), verdict("c", "a", 0.2, "a is better"), verdict("c", "d", -0.3, "c is better"),
        verdict("b", "a", 0.1, "tie"), verdict("b", "d", -0.4, "b is better"), verdict("a", "d", -0.5, "a is better"),
    ]  # fmt: skip
    text = shown(results(rows, {"verdicts": verdicts}))
    assert named(text, "a", "b", "c", "d") == ["a", "b", "c", "d"]
    found = {name: words(text, name) for name in "abcd"}
    assert {name: found[name][found[name].index("✓") - 1] for name in "abcd"} == {"a": "1", "b": "1", "c": "2", "d": "4"}
    assert found["d"][3:5] == ["+0.5000", "±0.1000"]
    assert found["b"][3:5] == ["+0.1000", "±0.1000"]


def test_what_is_not_verified_stands_below_what_is_ranked_with_the_reason() -> None:
    rows = [row("leaky", 0.5, failed="3"), *ROWS]
    unranked = verdict("leaky", "gpt", -1.5, "not ranked: leaky is not verified: check 3", p_holm=None)
    text = shown(results(rows, {"verdicts": [unranked, VERDICT]}))
    assert named(text, "gpt", "pixelsnail", "leaky")[:3] == ["gpt", "pixelsnail", "leaky"]
    assert "not verified: check 3" in text
    leaky = words(text, "leaky")
    assert leaky[:5] == ["1.23M", "0.5000", "±0.2500", "✗", "61"]
    assert words(text, "gpt")[3:5] == ["-", "1"]
    assert "leaky, gpt: not ranked: leaky is not verified: check 3" in text
    nothing = row("unsure", 0.1) | {"verification": {"verified": False, "checks": []}, "ranked": False}
    assert "not verified\n" in "\n".join(line.strip() + "\n" for line in shown(results([nothing])).splitlines())


def test_budgets_have_sections_of_their_own_and_ranks_of_their_own() -> None:
    longer = [row(name, nll, budget="seconds:60") for name, nll in (("gpt", 1.9), ("pixelsnail", 1.8))]
    verdicts = [VERDICT, verdict("gpt", "pixelsnail", 0.1, "tie", budget="seconds:60")]
    text = shown(results([*ROWS, *longer], {"verdicts": verdicts}))
    assert named(text, "gpt", "pixelsnail", "budget") == ["budget", "gpt", "pixelsnail", "budget", "pixelsnail", "gpt"]
    ranks = [line.split()[line.split().index("✓") - 1] for line in text.splitlines() if "✓" in line]
    assert ranks == ["1", "2", "1", "1"]
    assert "steps:800: gpt - pixelsnail: -0.5000" in text
    assert "seconds:60: gpt - pixelsnail: +0.1000" in text


def test_of_many_pairs_those_of_the_best_are_told() -> None:
    names = [f"p{i}" for i in range(6)]
    verdicts = [verdict(a, b, -0.5, f"{a} is better") for a, b in itertools.combinations(names, 2)]
    text = shown(results([row(name, 2.0 + i) for i, name in enumerate(names)], {"verdicts": verdicts}))
    assert [f"{a} - {b}:" in text for a, b in itertools.combinations(names, 2)] == [True] * 5 + [False] * 10
    assert "10 more pairs are in results.json" in text
    assert "more pairs" not in shown(results(ROWS))


def test_references_and_reconstructions_stand_below_with_their_distances() -> None:
    references = [
        {"name": name, "measurements": {"fd/rand": measured(value, "FD[rand:v1]")}}
        for name, value in (("oracle codes", 0.0101), ("real against real", 0.0051), ("unigram samples", 0.987))
    ]
    more = {
        "psnr": measured(23.456, "psnr"), "reconstruction_fd/rand": measured(0.0077, "FD[rand:v1]"),
        "usage/codes": measured(0.875, "codebook usage"), "perplexity/codes": measured(77.7, "codebook perplexity"),
    }  # fmt: skip
    text = shown(results(ROWS, {"references": references}, measurements=more))
    values = {"oracle codes": 0.0101, "real against real": 0.0051, "unigram samples": 0.987, "reconstructions": 0.0077}
    assert {name: [float(word) for word in words(text, name)] for name in values} == {name: [v] for name, v in values.items()}


def test_a_distance_that_was_not_possible_is_a_column_with_a_footnote() -> None:
    notes = ["FID: n/a: the weights are missing (dvgen weights)", "one more thing"]
    text = shown(results(ROWS, {"notes": notes}))
    assert "FID ↓" in text
    assert words(text, "pixelsnail")[-3:-1] == ["n/a", "¹"]
    assert words(text, "unigram") == ["5.0000"]
    assert "¹ FID: n/a: the weights are missing (dvgen weights)" in text
    assert "\none more thing\n" in text


def test_distances_that_do_not_agree_have_no_winner() -> None:
    text = "no winner: FD[rand:v1] prefers gpt, FD[clf] prefers pixelsnail"
    assert f"samples: {text}" in shown(results(ROWS, {"fidelity": {"winner": None, "text": text}}))
    assert "samples: " not in shown(results(ROWS))


def test_a_source_of_codes_has_no_tokenizer() -> None:
    """Its codes are drawn, and the excess over its exact probability is a column."""
    kept = ("images", "codes", "conditioning", "levels", "codes_per_image", "experiment")
    source = {key: value for key, value in results(ROWS)["groups"][0]["tokenizer"].items() if key in kept}
    source |= {"kind": "truth", "name": "potts-8x8", "data": "potts-8x8", "measurements": {}, "entropy_nats_per_image": 64.0}
    group = results([row("gpt", 2.0, excess=measured(0.0123, "excess", (0.0023, 0.0223)))])["groups"][0] | {"tokenizer": source}
    text = shown({"groups": [group, group], "intervals": "95 %"})
    assert "truth:potts-8x8" in text
    assert "codes: 8x8 codes of 512\n" in text
    assert "0.0123 ±0.0100" in text
    assert "excess over" in text
    assert "floor: 1.0000 nats/code" in text
    assert "PSNR" not in text


def test_the_distance_is_named_after_its_features_and_no_markup_is_swallowed() -> None:
    text = shown(results(ROWS))
    assert re.search(r"FD .*\n.*\[rand:v1\] ↓", text)
    assert "my/[bold]images" in text


def test_a_prior_that_loses_to_counting_four_neighbours_is_named() -> None:
    lost = "not better than counting"
    assert lost not in shown(results(ROWS))
    rows = [row("gpt", 2.0), row("poor", 3.3)]
    (line,) = [line for line in shown(results(rows, {"verdicts": []})).splitlines() if lost in line]
    assert line.startswith("poor")
    assert "four neighbours" in line


def test_a_bound_is_shown_as_one_and_has_no_rank_beside_what_is_exact() -> None:
    bound = row("masked", 1.0)
    bound["measurements"]["nll"]["key"]["protocol"] = {"likelihood": "bound"}
    unranked = dict.fromkeys(("difference", "interval", "p", "p_holm", "better_on_image"))
    verdicts = [VERDICT, *(verdict("masked", name, 0, "not ranked: bound") | unranked for name in ("gpt", "pixelsnail"))]
    text = shown(results([bound, *ROWS], {"verdicts": verdicts}))
    assert words(text, "masked")[1:5] == ["<=", "1.0000", "±0.2500", "✓"]
    assert named(text, "gpt", "pixelsnail", "masked")[:3] == ["gpt", "pixelsnail", "masked"]
    assert words(text, "gpt")[3:5] == ["-", "1"]
    assert "masked, gpt: not ranked: bound" in text
    assert words(shown(results(ROWS)), "gpt")[1] == "2.0000"


@pytest.mark.parametrize("prior", ["gpt", "top=pixelsnail+bottom=pixelsnail"])
@pytest.mark.parametrize("notes", [[], ["FID: n/a: no weights", "FD[clf:cifar]: n/a: nor these"]])
def test_nothing_is_cut_off_where_there_is_no_terminal_and_the_width_is_kept(prior: str, notes: list[str]) -> None:
    """What does not fit in one table is two, one of likelihoods and one of samples."""
    full = {
        "fd/tv": measured(12345.6789, "FD[inception-tv:0123456789ab]", (12000.0, 13000.0)),
        "fd/rand": measured(0.123, "FD[rand:v1]", (0.1, 0.2)),
        "excess": measured(1.2345, "excess", (1.2, 1.3)),
    }
    own = verdict(prior, "gpt", 10.0, "gpt is better")
    text = shown(results([row(prior, 12.0, **full), row("gpt", 2.0, **full)], {"notes": notes, "verdicts": [own]}))
    assert "…" not in text
    for part in (
        *prior.split("+"),
        "12.0000 ±0.2500",
        "+10.0000 ±0.1000",
        "1.2345 ±0.0500",
        "12346 ±500",
        "[inception-tv:0123456789ab] ↓",
        "samples",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= WIDTH
    narrow = shown(results([row(prior, 12.0, **full)]), width=50)
    assert "12.0000 ±0.2500" in narrow
