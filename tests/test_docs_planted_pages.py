"""What a page may get wrong is found: a fault of each kind is planted, and the test that is responsible for it fails."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import test_docs_commands
import test_docs_pages
import test_troubleshooting
from doc_pages import read


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("[there](nowhere.md)", test_docs_pages.test_every_link_leads_to_a_file_and_a_heading),
        ("[there](#nowhere)", test_docs_pages.test_every_link_leads_to_a_file_and_a_heading),
        ("![short](a.png)", test_docs_pages.test_every_picture_says_in_words_what_it_shows),
        ("`dvgen/nowhere.py`", test_docs_pages.test_every_source_file_that_is_named_is_there),
    ],
)
def test_a_page_that_leads_nowhere_is_found(tmp_path: Path, text: str, check: Callable[[Path], None]):
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n\n{text}\n")
    with pytest.raises(AssertionError):
        check(page)


@pytest.mark.parametrize("text", ["`dvgen trian`", "`dvgen train --layers`", "`dvgen explain quantiser`"])
def test_a_command_in_running_text_that_there_is_not_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str):
    page = tmp_path / "page.md"
    page.write_text(f"Say {text}.\n")
    monkeypatch.setattr(test_docs_commands, "PAGES", [page])
    with pytest.raises(AssertionError, match=re.escape(text.strip("`"))):
        test_docs_commands.test_every_command_in_running_text_has_its_name_and_options()


def test_a_symptom_that_no_message_points_to_is_found(monkeypatch: pytest.MonkeyPatch):
    text = read("docs/troubleshooting.md") + "\n## Planted\n\n**Do.** Nothing.\n"
    monkeypatch.setattr(test_troubleshooting, "TEXT", text)
    with pytest.raises(AssertionError, match="planted"):
        test_troubleshooting.test_every_section_is_a_symptom_and_the_pointer_leads_to_the_page()


def test_a_message_that_points_nowhere_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dvgen.training.findings.see", lambda symptom: "See elsewhere")
    with pytest.raises(AssertionError, match="See elsewhere"):
        test_troubleshooting.test_every_finding_of_a_codebook_points_to_its_symptom_which_quotes_it()


def test_a_message_in_other_words_than_the_page_quotes_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dvgen.training.game_doctor.WHERE", "planted")
    with pytest.raises(AssertionError, match="planted"):
        test_troubleshooting.test_a_game_that_never_began_points_to_its_symptom()
