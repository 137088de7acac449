"""Every message of trouble points to its symptom on the page that says what to do, which quotes the words that are printed."""

import errno
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doc_pages import ROOT, read
from result_documents import measured, results, row, shown
from test_docs_pages import anchors
from toy_runs import dvgen, session

import dvgen as package
from dvgen.cli import group
from dvgen.errors import ConfigError, NonFiniteError
from dvgen.training.codebook_advice import GROWTH, Features, Use, level_findings, map_findings
from dvgen.training.findings import Finding
from dvgen.training.finiteness import Finiteness
from dvgen.training.game_doctor import GRACE, GameDoctor
from dvgen.training.memory import out_of_memory
from dvgen.training.pipeline import check_assembly
from dvgen.training.symptoms import PAGE, Symptom, see

TEXT = read(PAGE)
ENDS = re.compile(rf"See {re.escape(PAGE)}#([a-z-]+)$")


def bare(text: str) -> str:
    """A message without its numbers."""
    return re.sub(r"\d[\d.e+]*", "#", text)


QUOTED = {bare(line.removeprefix("> ").split(" (commitment")[0]) for line in TEXT.splitlines() if line.startswith("> ")}


def under(symptom: Symptom) -> str:
    """The section of a symptom; fails when there is not exactly one."""
    parts = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
    (found,) = (part for part in parts if anchors(f"## {part.splitlines()[0]}") == {symptom.value})
    return found


def check_line(line: str) -> Symptom:
    """Fails unless a line that is printed ends with the pointer to a section, which quotes how the line begins; its symptom."""
    pointer = ENDS.search(line)
    assert pointer, line
    symptom = Symptom(pointer[1])
    own = {quoted for quoted in QUOTED if any(bare(told).startswith(f"> {quoted}") for told in under(symptom).splitlines())}
    assert any(bare(line.removeprefix("dvgen: ")).startswith(quoted) for quoted in own), line
    return symptom


def of_codebooks() -> list[Finding]:
    """Every finding of a codebook, of numbers that have every fault."""
    use = Use(num_codes=512, positions=10**5, used=400, perplexity=5.0, unused=485, since=245760)
    lengths = [float(i + 1) for i in range(GROWTH + 1)]
    features = Features(
        ratio=1.1,
        spread=0.5,
        vector_norm=2.9,
        lengths=lengths,
        certified=0.05,
        deterministic=True,
        table=True,
        remedy="searched",
    )
    return [*level_findings("codebook", use, features), *map_findings("codebook", features, collapsed=False)]


def of_a_game(**means: float) -> list[str]:
    """What is told of a game at the end of a training with these means, whose reconstruction was at best 1."""
    doctor = GameDoctor(start=500)
    doctor.best = 1.0
    even = {"discriminator_accuracy": 0.7, "adversarial_weight": 0.1, "reconstruction": 1.0}
    doctor.observe({name: torch.tensor(value) for name, value in (even | means).items()})
    return doctor.report(500 + GRACE, lambda sums: sums, finished=True)


def test_every_finding_of_a_codebook_points_to_its_symptom_which_quotes_it():
    findings = of_codebooks()
    assert len({finding.kind for finding in findings}) == len(findings) > 5
    assert [check_line(str(finding)) for finding in findings] == [finding.symptom for finding in findings]


@pytest.mark.parametrize(
    ("means", "symptom"),
    [
        ({"discriminator_accuracy": 0.999}, Symptom.DISCRIMINATOR_WINS),
        ({"discriminator_accuracy": 0.5}, Symptom.DISCRIMINATOR_LOSES),
        ({"adversarial_weight": 9000.0}, Symptom.ADAPTIVE_WEIGHT),
        ({"reconstruction": 2.0}, Symptom.RECONSTRUCTION_WORSE),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)
def test_a_game_that_goes_badly_points_to_its_symptom_and_an_even_one_says_nothing(means: dict[str, float], symptom: Symptom):
    assert [check_line(line) for line in of_a_game(**means)] == [symptom]
    assert of_a_game() == []


def test_a_game_that_never_began_points_to_its_symptom():
    (said,) = GameDoctor(start=500).report(400, lambda sums: sums, finished=True)
    assert check_line(said) == Symptom.NO_GAME
    assert "step 500 (adversarial.start), and training ended at step 400" in said
    assert GameDoctor(start=500).report(501, lambda sums: sums, finished=True) == []


NO_MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 10 GiB."),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8."
    ),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
]


def failing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception) -> tuple[int, list[str]]:
    """The exit code of a command that raises this error, and its lines on standard error."""

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(group.commands["plugins"], "callback", fails)
    code = dvgen("plugins")
    return code, capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: f"{type(error).__name__}: {str(error)[:30]}")
def test_a_want_of_memory_is_one_line_with_what_to_do(error: Exception, monkeypatch, capsys):
    code, (line,) = failing(monkeypatch, capsys, error)
    assert code == 1
    assert "micro_batches" in line
    assert "internal error" not in line
    assert "enforce fail" not in line
    assert ENDS.search(line)[1] == Symptom.OUT_OF_MEMORY.value
    if isinstance(error, torch.OutOfMemoryError):
        assert check_line(line) == Symptom.OUT_OF_MEMORY
        assert "total capacity" not in line


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "runs/a/metrics.jsonl"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=lambda error: str(error)[:30],
)
def test_a_full_disk_is_one_line_with_what_to_do(error: Exception, monkeypatch, capsys):
    """The last is what safetensors makes of it."""
    code, (line,) = failing(monkeypatch, capsys, error)
    assert code == 3
    assert "the disk is full" in line
    assert "--resume" in line
    assert "internal error" not in line
    assert line.startswith("dvgen: runs/a/metrics.jsonl: ") == (getattr(error, "filename", None) is not None)


def test_what_torch_itself_raises_for_too_large_a_tensor_is_known():
    """2^62 bytes are more than any machine has."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**62, dtype=torch.uint8)
    assert out_of_memory(caught.value)
    with pytest.raises(MemoryError) as caught_numpy:
        np.empty(2**62, dtype=np.uint8)
    assert out_of_memory(caught_numpy.value)


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes cannot be multiplied"), ValueError("out of memory"), OSError(errno.ENOENT, "no")]
)
def test_other_errors_are_no_want_of_memory(error: Exception, monkeypatch, capsys):
    code, (line,) = failing(monkeypatch, capsys, error)
    assert (code, out_of_memory(error)) == (1, False)
    assert line.startswith(f"dvgen: internal error: {type(error).__name__}")


def test_parts_that_fit_but_for_memory_are_not_said_to_misfit(monkeypatch):
    """The assembly is tried with one signal, and takes what goes wrong there for a decoder of another grid."""

    class Made:
        levels = ()

        def eval(self) -> "Made":
            return self

        def decode(self, codes: Any) -> None:
            raise self.error

    made = Made()
    monkeypatch.setattr("dvgen.training.pipeline.new_tokenizer", lambda *_: made)
    subject: Any = type("Subject", (), {"registry": None, "dataset": type("Set", (), {"shape": (1, 2, 2)})})
    made.error = RuntimeError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        check_assembly(subject, subject, subject)
    made.error = RuntimeError("sizes differ")
    with pytest.raises(ConfigError, match="matches the encoder: sizes differ"):
        check_assembly(subject, subject, subject)


def test_a_loss_that_is_not_finite_points_to_its_symptom(monkeypatch, capsys):
    watch = Finiteness(session().fabric, "tokenizer", "try a lower lr, or longer warmup", late=False)
    with pytest.raises(NonFiniteError) as caught:
        watch.check(1200, {"loss": torch.tensor(math.nan), "gradient_norm": torch.tensor(3.5)})
    code, (line,) = failing(monkeypatch, capsys, caught.value)
    assert (code, check_line(line)) == (6, Symptom.NOT_FINITE)


def test_a_fault_of_another_kind_points_nowhere(monkeypatch, capsys):
    assert failing(monkeypatch, capsys, ConfigError("one\ntwo")) == (2, ["dvgen: one", "dvgen: two"])


def test_a_plugin_that_failed_points_to_its_symptom(tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text("raise ImportError('no')")
    monkeypatch.syspath_prepend(tmp_path)
    assert dvgen("-p", "mine", "plugins") == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED"))
    assert ENDS.search(line)[1] == Symptom.NO_PLUGIN.value


def test_a_comparison_points_to_the_symptoms_of_its_warnings():
    """A prior that counting beats, and a tokenizer that is blurred: 8x8 blocks of an image by their means have some 18 dB."""
    poor = {"psnr": measured(18.3, "psnr"), "usage/codes": measured(1.0, "usage"), "perplexity/codes": measured(9, "p")}
    text = shown(results([row("poor", 3.3)], measurements=poor), width=400)
    lines = [line for line in text.splitlines() if ENDS.search(line.rstrip())]
    assert {ENDS.search(line.rstrip())[1] for line in lines} == {Symptom.NOISE.value, Symptom.BLURRY.value}
    assert not ENDS.search(shown(results([row("gpt", 2.0)]), width=400))
    assert check_line(next(line for line in lines if "lost detail" in line)) == Symptom.BLURRY
    assert check_line(next(line for line in lines if "counting" in line).replace("poor", "gpt")) == Symptom.NOISE


@pytest.mark.parametrize("symptom", Symptom, ids=lambda symptom: symptom.value)
def test_every_symptom_has_a_section_that_says_what_to_do_and_a_message_that_points_to_it(symptom: Symptom):
    text = under(symptom)
    assert "**Do.**" in text
    assert "\n> " in text
    sources = [path.read_text() for path in Path(package.__file__).parent.rglob("*.py")]
    assert any(f"Symptom.{symptom.name}" in source for source in sources)


def test_every_section_is_a_symptom_and_the_pointer_leads_to_the_page():
    assert anchors(TEXT) - {"troubleshooting"} == {symptom.value for symptom in Symptom}
    assert see(Symptom.NO_GAME) == f"See {PAGE}#the-game-never-began"
    assert (ROOT / PAGE).is_file()


def test_a_pointer_is_made_in_one_place():
    sources = {path: path.read_text() for path in Path(package.__file__).parent.rglob("*.py")}
    assert [path.stem for path, source in sources.items() if PAGE in source] == ["symptoms"]
