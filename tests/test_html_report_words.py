"""What the report says: verdicts in words, and tables of what was measured and of what was not."""

import pytest
from toy_pages import Page, comparison, verdict
from toy_results import document, drawn, group, likelihood, measured, row

from dvgen.report.cells import Keys, reasons
from dvgen.report.headline import headlines, in_words, warnings
from dvgen.report.html import render
from dvgen.report.marks import marks_of


@pytest.mark.parametrize("turned", [False, True])
def test_a_verdict_names_the_better_one_first_and_has_its_lead_positive(turned):
    """The same finding with the pair in either order is the same sentence."""
    told = verdict("gpt", "pixelsnail", -0.02, "gpt is better", better_on_image=0.7)
    if turned:
        told = verdict("pixelsnail", "gpt", 0.02, "gpt is better", better_on_image=0.3)
    sentence = in_words(told).replace("\N{NO-BREAK SPACE}", " ")
    assert sentence == (
        "gpt is better than pixelsnail by 0.0200 nats/code (95 % interval 0.0100 to 0.0300; p = 0.002, Holm-adjusted). "
        "It has the lower NLL on 70% of the images."
    )


def test_ties_and_what_is_not_ranked_are_said_in_words():
    tie = in_words(verdict("gpt", "pixelsnail", -0.005, "tie", p_holm=0.4)).replace("\N{NO-BREAK SPACE}", " ")
    assert tie.startswith("gpt and pixelsnail tie: the difference of 0.0050 nats/code may be chance")
    assert "\N{MINUS SIGN}0.0150 to +0.0050; p = 0.4, Holm-adjusted" in tie
    empty = dict.fromkeys(("difference", "interval", "p", "p_holm", "better_on_image"))
    unranked = verdict("gpt", "masked", 0.0, "not ranked: masked is a bound") | empty
    assert in_words(unranked) == "gpt and masked: not ranked: masked is a bound."


def test_the_headline_says_who_leads_and_over_whom():
    results, _ = comparison("gpt", "pixelsnail", "masked")
    whole = results["groups"][0]
    whole["verdicts"][1] |= {"verdict": "tie"}
    (found,) = headlines(whole, list(zip(whole["rows"], marks_of(whole["rows"]), strict=True)))
    assert found.sentences[0].text.startswith("gpt has the lowest NLL")
    assert found.sentences[0].text.endswith("better than pixelsnail, tied with masked.")
    assert [sentence.look for sentence in found.sentences] == ["lead", "better", "tie", "better"]


def test_what_is_not_verified_is_shown_last_and_never_leads(tmp_path):
    results, _ = comparison("gpt", "pixelsnail")
    best = results["groups"][0]["rows"][0]
    failed = {"number": "2", "name": "causality", "passed": False, "detail": "position 3 knows code 7"}
    best |= {"ranked": False, "verification": {"verified": False, "checks": [failed]}}
    results["groups"][0]["verdicts"][0] |= {"verdict": "not ranked: gpt is not verified"} | dict.fromkeys(
        ("difference", "interval")
    )
    text = Page(render(tmp_path, results)).text
    assert "pixelsnail has the lowest NLL" in text
    assert "gpt has the lowest" not in text
    assert "gpt is not verified, and so not ranked" in text
    assert "gpt, check 2: position 3 knows code 7" in text
    table = text[text.index("Likelihood of held-out codes") :]
    assert table.index("pixelsnail") < table.index("gpt (not ranked)")


def test_a_prior_that_counting_beats_is_flagged():
    results, _ = comparison("gpt", "pixelsnail")
    whole = results["groups"][0]
    rows = list(zip(whole["rows"], marks_of(whole["rows"]), strict=True))
    whole["baselines"].append({"name": "four neighbours", "measurements": likelihood(drawn(5, mean=3.05))})
    assert [text for text in warnings(whole, rows) if "counting" in text] == [
        "pixelsnail is not better than counting four neighbours: train longer, or look for a fault. "
        "See docs/troubleshooting.md#samples-look-like-noise"
    ]


def test_every_budget_has_verdicts_and_a_table_of_its_own(tmp_path):
    both = [row(prior, drawn(i), budget) for budget in ("steps:800", "seconds:60") for i, prior in enumerate(("gpt", "snail"))]
    whole = group(both)
    whole["verdicts"] = [verdict("gpt", "snail", -0.1, "gpt is better", budget=b) for b in ("steps:800", "seconds:60")]
    text = render(tmp_path, document([whole]))
    for budget in ("steps:800", "seconds:60"):
        assert text.count(f"<h4>Budget {budget}</h4>") == 2
    assert text.count("gpt is better than snail by") >= 2


def test_what_was_not_measured_says_why(tmp_path):
    assert reasons(["FID: n/a: no weights", "another note"]) == {"FID": "no weights"}
    results, _ = comparison("gpt", "pixelsnail")
    results["groups"][0]["notes"] = ["FID: n/a: the weights <are> missing", "a note of another kind"]
    text = render(tmp_path, results)
    assert "the weights &lt;are&gt; missing" in text
    cells = [a for tag, a in Page(text).elements if a.get("title") == "the weights <are> missing"]
    assert len(cells) == 6  # the head of the column, two priors, three references
    assert "a note of another kind" in text


def test_a_source_of_codes_has_its_entropy_and_bars_of_excess(tmp_path):
    nats = drawn(0, seeds=2)
    excess = measured(0.0321, "excess", (0.01, 0.0542), unit="nats/code")
    whole = group([row("gpt", nats, excess=excess)], kind="truth", name="potts-8x8", entropy_nats_per_image=2.5 * 16)
    whole["tokenizer"] = {
        name: value
        for name, value in whole["tokenizer"].items()
        if name not in ("encoder", "location", "skipped", "parameters", "train_seconds", "steps", "budget_spent")
    }
    whole["tokenizer"] |= {"measurements": {}, "experiment": {"prior": []}}
    whole["references"] = []
    text = render(tmp_path, document([whole]))
    assert "truth:potts-8x8" in text
    assert "exact entropy: 2.5000 nats/code" in text
    assert "0.0321 ±0.0221" in text
    assert '<path class="bar' in text
    assert "Excess over the exact log-probability" in text


def test_levels_have_a_table_where_there_are_several(tmp_path):
    levels = [{"name": name, "grid": [2, 2], "num_codes": 8} for name in ("top", "bottom")]
    by_level = {
        f"{name}/{level}": measured(value, name, (value - 0.1, value + 0.1), unit=name, level=level)
        for level, value in (("top", 1.25), ("bottom", 2.75))
        for name in ("nll", "bits_image")
    }
    whole = group([row("gpt", drawn(0), **by_level)], levels=levels)
    text = Page(render(tmp_path, document([whole]))).text
    assert "By level" in text
    assert "top nats/code" in text
    assert "2.7500 ±0.1000" in text


def test_keys_that_are_equal_are_one_and_others_are_not():
    results, _ = comparison("gpt", "pixelsnail")
    keys = Keys.of(results)
    first, second = (one["measurements"]["nll"]["key"] for one in results["groups"][0]["rows"])
    assert keys.name(first) == keys.name(second)
    assert keys.name(first) != keys.name(results["groups"][0]["rows"][0]["measurements"]["bits_image"]["key"])
