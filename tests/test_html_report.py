"""The report of a comparison: one page with the verdicts first and every number, that needs nothing else."""

import copy
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from toy_pages import Page, comparison, fill, noise
from toy_results import write_comparison
from toy_runs import dvgen

from dvgen.errors import DataError
from dvgen.report.appendix import command_line
from dvgen.report.html import render, write_report

HOSTILE = "<script>alert(1)</script>\"><img src=x onerror='alert(2)'>"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A whole comparison of two priors, with all its files; not to be changed."""
    folder = tmp_path_factory.mktemp("comparison")
    results, nats = comparison("gpt", "pixelsnail")
    write_comparison(folder, nats, results)
    fill(folder, results)
    return folder, results


@pytest.fixture(scope="module")
def page(finished: tuple[Path, dict[str, Any]]) -> str:
    folder, results = finished
    written = write_report(folder, results)
    assert written == folder / "report.html"
    return written.read_text(encoding="utf-8")


def test_verdicts_stand_before_every_table_and_chart(page):
    said = page.index("gpt is better than pixelsnail by 0.1000 nats/code")
    assert said < page.index("<table")
    assert said < page.index('<svg class="chart"')


def test_nothing_can_leave_the_page(page):
    """No script, nothing to load but data inside of it, and a policy under which a browser would load nothing else."""
    found = Page(page)
    tags = {tag for tag, _ in found.elements}
    assert not tags & {
        "script",
        "link",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
        "video",
        "audio",
        "source",
        "use",
        "image",
    }
    assert all(url.startswith(("data:image/png;base64,", "#")) for url in found.values("src") + found.values("href"))
    assert not re.search(r"url\(|@import|https?:", page)
    policy = next(a["content"] for _, a in found.elements if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert set(rules) == {"default-src", "style-src", "img-src", "base-uri", "form-action"}


def test_every_link_leads_somewhere(page):
    found = Page(page)
    assert {link.removeprefix("#") for link in found.values("href")} <= set(found.values("id"))
    assert len(found.values("id")) == len(set(found.values("id")))


def test_names_are_text_and_never_markup(tmp_path):
    """A name that is markup, in every place where a name can be."""

    def poisoned(value: Any) -> Any:
        if isinstance(value, dict):
            known = {"folder", "kind", "budget", "verdict", "schema", "pair"}
            return {k: v if k in known else poisoned(v) for k, v in value.items()}
        if isinstance(value, list):
            return [poisoned(v) for v in value]
        return value + HOSTILE if isinstance(value, str) else value

    results, nats = comparison("gpt", "pixelsnail")
    write_comparison(tmp_path, nats, results)
    fill(tmp_path, results)
    text = render(tmp_path, poisoned(copy.deepcopy(results)))
    found = Page(text)
    assert "script" not in {tag for tag, _ in found.elements}
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert all(source.startswith("data:") for source in found.values("src"))
    assert f"gpt{HOSTILE}" in found.text


def test_all_tags_are_closed_and_pictures_are_xml(page):
    Page(page)
    for start in (m.start() for m in re.finditer('<svg class="(?:chart|strip|swatch)"', page)):
        depth = 0
        for tag in re.finditer(r"<svg\b|</svg>", page[start:]):
            depth += 1 if tag[0] == "<svg" else -1
            if not depth:
                ElementTree.fromstring(page[start : start + tag.end()])
                break


def test_pictures_and_charts_have_words_for_those_who_cannot_see_them(page):
    found = Page(page)
    assert all(attributes.get("alt") for tag, attributes in found.elements if tag == "img")
    charts = [a for tag, a in found.elements if tag == "svg" and a.get("class") in ("chart", "strip")]
    assert charts
    assert all(a.get("aria-label") or a.get("aria-hidden") for a in charts)


def test_every_measurement_of_every_row_is_on_the_page_with_all_its_digits_its_interval_and_its_key(finished, page):
    """Each against the number in the results: its cell says the value, and hovering more of it."""
    _, results = finished
    found = Page(page)
    for one in results["groups"][0]["rows"]:
        for it in one["measurements"].values():
            assert any(
                title.startswith(f"{it['value']:.6g}; ") and f"n = {it['n']}" in title for title in found.values("title")
            )
            for name, value in it["key"]["protocol"].items():
                assert f"{name}: {value}" in found.text
        nll = one["measurements"]["nll"]
        low, high = nll["interval"]
        assert f"{nll['value']:.4f} ±{(high - low) / 2:.4f}" in found.text
        assert f"95 % interval {low:.4f} to {high:.4f}" in page


def test_command_environment_and_settings_are_there(finished, page):
    _, results = finished
    text = Page(page).text
    assert "dvgen compare --prior gpt,pixelsnail" in text
    assert command_line({"command": ["/home/me/bin/dvgen", "compare", "a b"]}) == "dvgen compare 'a b'"
    assert command_line({"command": ["/x/dvgen/__main__.py", "compare"]}) == "python -m dvgen compare"
    assert "3.11.9" in text
    assert json.dumps(results["groups"][0]["rows"][0]["experiment"], indent=1) in text


SECTIONS = {
    "Learning curves": "rows/*/metrics.jsonl",
    "Where codes are hard to predict": "rows/*/assessment/per_position.npz",
    "How often codes occur": "rows/*/assessment/samples.npz",
    "Reconstructions": "tokenizers/*/samples/reconstructions.png",
    "Samples, uncurated": "rows/*/samples/samples.png",
    "Nearest training neighbours": "rows/*/samples/neighbours.png",
}


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_is_there_only_with_its_files(section, tmp_path):
    results, nats = comparison("gpt", "pixelsnail")
    write_comparison(tmp_path, nats, results)
    fill(tmp_path, results)
    assert f"<h3>{section}</h3>" in render(tmp_path, results)
    for path in tmp_path.glob(SECTIONS[section]):
        path.unlink()
    text = render(tmp_path, results)
    assert f"<h3>{section}</h3>" not in text
    assert all(f"<h3>{other}</h3>" in text for other in SECTIONS if other != section)


def test_results_without_any_file_beside_them_make_a_page(tmp_path):
    results, _ = comparison("gpt", "pixelsnail")
    text = render(tmp_path, results)
    assert "gpt is better than pixelsnail" in text
    assert not any(f"<h3>{section}</h3>" in text for section in SECTIONS)


def test_what_is_damaged_is_left_out_and_said_to_be(tmp_path):
    results, nats = comparison("gpt", "pixelsnail")
    write_comparison(tmp_path, nats, results)
    fill(tmp_path, results)
    (file,) = (tmp_path / "tokenizers").glob("*/codes/test-codes-0.npy")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    text = Page(render(tmp_path, results)).text
    assert "How often codes occur" not in text
    assert "left out" in text
    assert "test-codes-0.npy: damaged" in text


def test_the_page_stays_under_five_megabytes(tmp_path):
    """Seven pictures of noise, which nothing compresses, of 2 MB each."""
    priors = ("gpt", "pixelsnail", "pixelcnn")
    results, nats = comparison(*priors, seeds=1)
    write_comparison(tmp_path, nats, results)
    fill(tmp_path, results)
    draw = np.random.default_rng(0)
    for path in tmp_path.rglob("*.png"):
        noise(path, 800, draw)
    text = render(tmp_path, results)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.png")) > 12e6
    assert 1e6 < len(text.encode()) < 5e6
    assert "made smaller to fit into this page" in text
    assert len([source for source in Page(text).values("src") if len(source) > 1e5]) == 7


def test_the_command_writes_the_page_and_says_where(finished, tmp_path, capsys):
    folder, results = finished
    place = tmp_path / "page.html"
    assert dvgen("report", str(folder), "-o", str(place), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"schema": 1, "file": str(place), "bytes": place.stat().st_size}
    assert place.read_text(encoding="utf-8") == render(folder, results)


@pytest.mark.parametrize(
    ("text", "told"),
    [(None, "missing"), ('{"schema": 1}', "schema 1"), ('{"schema": 99}', "schema 99")],
)
def test_a_folder_without_usable_results_is_refused_in_one_line(text, told, tmp_path, capsys):
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    assert dvgen("report", str(tmp_path)) == DataError.exit_code
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (tmp_path / "report.html").exists()


def test_a_place_that_cannot_be_written_is_refused_in_one_line(finished, tmp_path, capsys):
    folder, _ = finished
    assert dvgen("report", str(folder), "-o", str(tmp_path / "no" / "such" / "page.html")) == DataError.exit_code
    assert "choose another place with -o" in capsys.readouterr().err
