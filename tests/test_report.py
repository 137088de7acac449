"""What a person sees: every row and every number of the results, whole, in the words of their protocol."""

import io
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dvgen.hookspecs import Run
from dvgen.report.progress import ProgressConsole
from dvgen.report.table import WIDTH, show_results

TRAIN: dict[str, Any] = {"tokenizer": {"ema": 0.0}}


def measured(value: float, metric: str, interval: tuple[float, float] | None = None, **protocol: str) -> dict[str, Any]:
    key = {"metric": metric, "unit": metric, "protocol": protocol or {"likelihood": "exact"}, "higher_is_better": False}
    return {"value": value, "interval": interval and list(interval), "n": 100, "key": key}


def row(prior: str, nll: float, *, budget: str = "steps:800", failed: str = "", **more: Any) -> dict[str, Any]:
    """A row; `failed`: the number of a check that it does not pass."""
    found = {"nll": measured(nll, "nats/code", (nll - 0.25, nll + 0.25)), "bits_image": measured(nll * 92, "bits/image")}
    checks = [{"number": number, "name": "x", "passed": number != failed, "detail": "x"} for number in ("1", "2", "3", "4")]
    return {
        "prior": prior,
        "budget": budget,
        "parameters": 1234567,
        "train_seconds": 61.4,
        "samples_per_second": 55.5,
        "verification": {"verified": not failed, "checks": checks},
        "ranked": not failed,
        "measurements": found | more,
    }


def verdict(one: str, other: str, difference: float, text: str, **more: Any) -> dict[str, Any]:
    """Half the interval is 0.1; the adjusted p is 0.0123."""
    ends = [difference - 0.1, difference + 0.1]
    return {
        "pair": [one, other], "budget": "steps:800", "difference": difference, "interval": ends, "unit": "nats/code",
        "p": 0.004, "p_holm": 0.0123, "better_on_image": 0.875, "verdict": text,
    } | more  # fmt: skip


VERDICT = verdict("gpt", "pixelsnail", -0.5, "gpt is better")
COUNTED = (("uniform", 6.0), ("unigram", 5.0), ("left", 3.5), ("left+up", 3.4), ("four neighbours", 3.3))


def results(rows: list[dict[str, Any]], group: Mapping[str, Any] = {}, **tokenizer: Any) -> dict[str, Any]:
    found = {
        "psnr": measured(23.456, "psnr", (23.4, 23.5)),
        "usage/codes": measured(0.875, "codebook usage"),
        "perplexity/codes": measured(77.7, "codebook perplexity"),
    }
    own = {
        "kind": "tokenizer", "name": "ema", "encoder": "vqvae", "data": "folder", "location": "my/[bold]images",
        "images": {"train": 40, "test": 4}, "codes": "abcdef0123456789", "conditioning": "none", "parameters": 12345,
        "steps": 600, "train_seconds": 61.4,
        "levels": [{"name": "codes", "grid": [8, 8], "num_codes": 512}], "entropy_nats_per_image": None,
        "codes_per_image": 64, "skipped": [], "measurements": found,
        "experiment": {"decoder": {"use": "mirror"}, "loss": [{"use": "mse"}, {"use": "l1"}], "train": TRAIN},
    }  # fmt: skip
    size = {"nll": measured(4.0, "nats/code", likelihood="file size of the whole split")}
    whole = {
        "tokenizer": own | tokenizer,
        "rows": rows,
        "references": [],
        "baselines": [{"name": name, "measurements": {"nll": measured(value, "nats/code")}} for name, value in COUNTED]
        + [{"name": "lzma", "measurements": size}],
        "notes": [],
        "verdicts": [VERDICT] if len(rows) > 1 else [],
        "fidelity": {"winner": None, "text": ""},
    }
    return {"groups": [whole | group], "intervals": "95 %, over test images"}


def shown(document: Mapping[str, Any], width: int = WIDTH) -> str:
    console = Console(file=io.StringIO(), width=width)
    show_results(document, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def words(text: str, name: str) -> list[str]:
    """Those after a name at the beginning of a line, in every table in which it stands."""
    lines = [line.strip() for line in text.splitlines()]
    return [word for line in lines if line.startswith(f"{name} ") for word in line.removeprefix(name).split()]


def named(text: str, *names: str) -> list[str]:
    """Which of the names begin a line of a table, in their order."""
    firsts = [line.split()[0] for line in text.splitlines() if line.startswith(" ") and line.split()]
    return [word for word in firsts if word in names]


FD = {"fd/rand": measured(0.01234, "FD[rand:v1]", (0.0113, 0.0133))}
ROWS = [row("pixelsnail", 2.5, **FD), row("gpt", 2.0, **FD)]


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
    for name, value in (
        ("oracle codes", "0.01010"),
        ("real against real", "0.005100"),
        ("unigram samples", "0.9870"),
        ("reconstructions", "0.007700"),
    ):
        assert words(text, name) == [value]


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


def test_the_tokenizer_is_described() -> None:
    text = shown(results(ROWS, entropy_nats_per_image=64.0, skipped=["bad[1].png", "worse.png"]))
    for part in (
        "vqvae + ema + mirror, mse+l1, on folder:my/", "train 40, test 4",
        "codes abcdef01", "conditioning: none", "12k parameters", "600 steps in 61 s",
        "PSNR 23.46 ±0.05 dB", "codes: 8x8 codes of 512, usage 87.5%, perplexity 77.7",
        "floor: 1.0000 nats/code, 92.33 bits/image",
        "2 files", "bad[1].png",
    ):  # fmt: skip
        assert part in text.replace("\n", " ")


def test_what_else_decides_a_tokenizer_is_told() -> None:
    """An opponent is part of its name; and whether its weights are an average is said, for it changes every number."""
    parts = {"decoder": {"use": "mirror"}, "loss": [{"use": "mse"}], "train": TRAIN}
    game = {"adversarial": {"discriminator": {"use": "patchgan"}}}
    assert "vqvae + ema + mirror + patchgan, mse, on" in shown(results(ROWS, experiment=parts | game))
    averaged = parts | {"train": {"tokenizer": {"ema": 0.999}}}
    assert "weights: moving average (0.999)" in shown(results(ROWS, experiment=averaged))
    assert "moving average" not in shown(results(ROWS))


def test_sound_is_measured_in_the_ratio_of_signal_to_noise() -> None:
    codebook = {"usage/codes": measured(0.5, "x"), "perplexity/codes": measured(7.0, "x")}
    sound = results(ROWS, measurements={"snr": measured(12.5, "snr", (12.25, 12.75))} | codebook)["groups"]
    text = shown({"groups": sound, "intervals": "95 %"})
    assert "SNR 12.50 ±0.25 dB" in text
    assert "PSNR" not in text
    assert "SNR dB ↑" in shown({"groups": sound * 2, "intervals": "95 %"})
    assert "PSNR/SNR dB ↑" in shown({"groups": results(ROWS)["groups"] + sound, "intervals": "95 %"})


def test_several_tokenizers_are_shown_side_by_side() -> None:
    one, other = results(ROWS)["groups"] + results(ROWS, name="vq", train_seconds=12.0)["groups"]
    one["tokenizer"]["measurements"]["reconstruction_fd/rand"] = measured(0.25, "FD[rand:v1]")
    text = shown({"groups": [one, other], "intervals": "95 %"})
    summary = text[text.index("tokenizer ") :]
    assert "PSNR dB" in summary
    lines = [line for line in summary.splitlines() if line.lstrip().startswith("vqvae +")]
    assert [line.split("+")[1].strip() for line in lines] == ["ema", "vq"]
    assert lines[0].split()[-2:] == ["0.2500", "61"]
    assert lines[1].split()[-6:] == ["23.46", "±0.05", "87.5%", "77.7", "-", "12"]
    assert "PSNR dB" not in shown(results(ROWS))


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


def run(step: int = 0) -> Run:
    return Run(folder=Path("runs/[red]x"), stage="prior", name="x", step=step, config={})


def progress(monkeypatch: pytest.MonkeyPatch, clock: list[float], step: int = 0) -> str:
    """What is said of a run whose steps are logged at these times."""
    console = Console(file=io.StringIO(), width=60)
    now = [0.0]
    monkeypatch.setattr("dvgen.report.progress.time.monotonic", lambda: now[0])
    with ProgressConsole(console) as observer:
        observer.dvgen_run_started(run(step))
        for i, now[0] in enumerate(clock):
            values = {"progress": (i + 1) / len(clock), "seconds": 10.0, "loss": 1.5, "examples_per_second": 99.0}
            observer.dvgen_step(run(step), i + 1, values)
        observer.dvgen_run_finished(run(step), {"step": len(clock), "seconds": 125.0})
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_progress_tells_beginning_end_and_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = progress(monkeypatch, [1.0, 20.0]).splitlines()
    assert lines[0] == "prior: runs/[red]x"
    assert lines[-1] == "prior: 2 steps in 2:05"
    assert any(line.startswith("prior: 100%  step 2  loss 1.5000  99/s  0:00 left") for line in lines)
    assert progress(monkeypatch, [1.0], step=7).splitlines()[0] == "prior: runs/[red]x, from step 7"
    assert len(progress(monkeypatch, [1.0, 2.0, 3.0]).splitlines()) == 2


@pytest.mark.parametrize("terminal", [True, False])
def test_a_notice_is_said_whole_and_at_once(terminal: bool) -> None:
    """Above a live bar too, and without taking brackets for markup."""
    console = Console(file=io.StringIO(), width=60, force_terminal=terminal)
    text = "codebook: [red] " + "word " * 20 + "end"
    with ProgressConsole(console) as observer:
        observer.dvgen_run_started(run())
        observer.dvgen_notice(run(), 7, text)
        assert f"prior: step 7: {text}" in str(console.file.getvalue())  # type: ignore[attr-defined]
