"""How docstrings become text of the site: parts become lists, indented lines code, and prose is never taken for mark-up."""

import sys

import pytest
from doc_pages import ROOT

sys.path.insert(0, str(ROOT / "docs"))
from docstrings import as_restructured_text

sys.path.pop(0)


def test_prose_is_one_line_a_paragraph():
    assert as_restructured_text("One\nline.\n\nAnother\n  one.\n") == "One line.\n\nAnother one.\n"


def test_parts_are_items_whether_each_has_a_line_or_not():
    lines = "What it is.\n\nvectors: (b, dim), of\n    all. Twice.\ncodes, labels: others."
    assert as_restructured_text(lines) == (
        "What it is.\n\n* ``vectors``: ``(b, dim)``, of all. Twice.\n\n* ``codes``, ``labels``: others.\n"
    )
    assert as_restructured_text("temperature: divides. top-k: keeps: all.") == (
        "* ``temperature``: divides.\n\n* ``top-k``: keeps: all.\n"
    )
    assert as_restructured_text("Quantize z. mask: bool.") == "Quantize z. \n\n* ``mask``: bool.\n".replace(" \n", "\n")


def test_a_sentence_that_begins_a_line_ends_the_part():
    text = "given: codes to keep,\nMASKED where free.\nDraws from the distribution."
    assert as_restructured_text(text) == "* ``given``: codes to keep, MASKED where free.\n\nDraws from the distribution.\n"


@pytest.mark.parametrize("text", ["Shapes: b batch.", "It is this: that.", "See https://a.b: there.", "a 1: 2"])
def test_a_colon_in_a_sentence_begins_no_part(text: str):
    assert not as_restructured_text(text).startswith("*")


def test_indented_paragraphs_are_code_as_they_stand():
    code = "    @contract(Mine)\n    class TestMine: ..."
    assert as_restructured_text(f"Use:\n\n{code}\n\nThen run.") == f"Use:\n\n::\n\n{code}\n\nThen run.\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a `b_c` d", "a ``b_c`` d"),
        ("`n`s and x`y`", "``n``\\ s and x\\ ``y``"),
        ("p(a | b), x_1 * y", "p(a \\| b), x\\_1 \\* y"),
        ("signals (b, channels, *size) here", "signals ``(b, channels, *size)`` here"),
        ("maps (b, dims[map], *grid)", "maps ``(b, dims[map], *grid)``"),
        ("of `f(b, n)`", "of ``f(b, n)``"),
        ("(a word, and another word)", "(a word, and another word)"),
        ("(0, 60000)", "(0, 60000)"),
    ],
)
def test_signs_of_the_prose_stay_what_they_are(text: str, told: str):
    assert as_restructured_text(text) == told + "\n"


def test_errors_of_dvgen_are_links():
    told = as_restructured_text("Raises ShapeError, not ValueError nor `ShapeError`.", frozenset({"ShapeError"}))
    assert told == "Raises :py:exc:`~dvgen.errors.ShapeError`, not ValueError nor ``ShapeError``.\n"
