"""`dvgen sample`: larger than trained, completions, precision, batches; what is wrong is one line, and nothing is written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_cli import MISSING, USAGE, document, refused
from torch import nn
from toy_runs import TINY_GPT, dvgen, session, settings

from dvgen.code_model import CodeModel
from dvgen.evaluation.completion import kept, parse_region, spread
from dvgen.evaluation.reconstruction import to_uint8
from dvgen.evaluation.sampling import decode_codes
from dvgen.evaluation.subject import Subject
from dvgen.tokenizer import Tokenizer
from dvgen.training.pipeline import load_run

SIDE = 32
"""Pixels of an image of the toy runs; a code stands for 8."""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on 48 drawn images of 4x4 codes; nothing is written into it."""
    folder = tmp_path_factory.mktemp("shapes") / "run"
    assert dvgen("train", "--out", str(folder), *settings(*TINY_GPT)) == 0
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of noise in two classes."""
    root = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    for i in range(12):
        place = root / ("cat" if i % 2 else "dog") / f"{i:02d}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(place)
    return root


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A finished run on a folder, with labels."""
    folder = tmp_path_factory.mktemp("labelled") / "run"
    sets = settings(*TINY_GPT)
    for name in ("shapes", "colours", "positions"):  # fields of another data set
        at = sets.index(f"data.{name}=2")
        del sets[at - 1 : at + 1]
    assert dvgen("train", "--data", f"folder:{pictures}", "--labels", "--out", str(folder), *sets) == 0
    return folder


def numbers(place: Path) -> Any:
    """The array of a file of samples."""
    with np.load(place, allow_pickle=False) as arrays:
        return arrays["arr_0"]


def sampled(run: Path, place: Path, *arguments: str) -> Any:
    assert dvgen("sample", str(run), "-o", str(place), "--accelerator", "cpu", *arguments) == 0
    return numbers(place) if place.suffix == ".npz" else None


KEEP = ["--complete", "test", "--keep", "top:0.5"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--size", "64x96", *KEEP], ["--complete with --size"]),
        (["--complete", "test"], ["--complete test", "expected --keep REGION"]),
        (["--keep", "top:0.5"], ["--keep top:0.5", "expected --complete SOURCE"]),
        (["--stride", "2"], ["--stride 2", "expected --size"]),
        (["--size", "huge"], ["--size 'huge'", "expected HEIGHTxWIDTH"]),
        (["--size", "0x64"], ["--size '0x64'"]),
        (["--size", "64"], ["--size 64", "trained on 32x32"]),
        (["--size", "64x64x64"], ["--size 64x64x64", "trained on 32x32"]),
        (["--size", "64x24"], ["--size 64x24", "trained on 32x32; expected at least that"]),
        (["--size", "64x36"], ["--size 64x36", "expected multiples of 8x8"]),
        (["--size", "64x64", "--stride", "0"], ["--stride"]),
        (["--precision", "16-mixed"], ["16-mixed", "bf16-true"]),
        (["--batch", "0"], ["--batch"]),
        (["--complete", "test", "--keep", "none"], ["--keep 'none'", "top:0.5"]),
        (["--complete", "test", "--keep", "top:0.1"], ["no code of the coarsest grid, 4x4"]),
        (["--complete", "test", "--keep", "left:0.9"], ["every code of the coarsest grid, 4x4"]),
        ([*KEEP, "-n", "100"], ["-n 100", "--complete test has 4 signals"]),
        (["--complete", "tset", "--keep", "top:0.5"], ["shapes", "expected one of train, validation, test"]),
        ([*KEEP, "--label", "square"], ["trained without labels"]),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(
    shapes: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: list[str]
) -> None:
    capsys.readouterr()
    before = sorted(shapes.rglob("*"))
    code, line = refused(capsys, "sample", str(shapes), "--accelerator", "cpu", *arguments)
    assert code == USAGE
    for word in told:
        assert word in line
    assert sorted(shapes.rglob("*")) == before


def test_a_prior_of_no_raster_order_is_not_enlarged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    small = ("prior.dim=8", "prior.layers=1", "prior.heads=2")
    assert dvgen("train", "--prior", "masked", "--out", str(run), *settings(*small)) == 0
    capsys.readouterr()
    code, line = refused(capsys, "sample", str(run), "--size", "64x64", "-n", "2", "--accelerator", "cpu")
    assert code == USAGE
    assert line.startswith("dvgen: --size 64x64: level 'codes'")
    assert not (run / "samples").exists()
    assert dvgen("sample", str(run), *KEEP, "-n", "2", "--accelerator", "cpu") == 0


@pytest.mark.parametrize("stride", [[], ["--stride", "1"]])
def test_larger_samples_have_the_size_asked_for_as_numbers_and_as_a_picture(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], stride: list[str]
) -> None:
    assert sampled(shapes, tmp_path / "s.npz", "-n", "3", "--size", "48x64", *stride).shape == (3, 48, 64, 3)
    done = document(capsys, "sample", str(shapes), "-n", "3", "--size", "48x64", "-o", str(tmp_path / "s.png"), "--json")
    assert done["size"] == [48, 64]
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.size == (2 * (64 + 2) + 2, 2 * (48 + 2) + 2)


def test_at_the_trained_size_nothing_changes(shapes: Path, tmp_path: Path) -> None:
    plain, sized = (
        sampled(shapes, tmp_path / f"{i}.npz", "-n", "5", *size) for i, size in enumerate([[], ["--size", "32x32"]])
    )
    assert (plain == sized).all()


@pytest.mark.parametrize("arguments", [[], ["--complete", "train", "--keep", "outside:0.5"], ["--size", "40x32"]])
def test_no_sample_depends_on_how_many_are_drawn_at_once(shapes: Path, tmp_path: Path, arguments: list[str]) -> None:
    """Codes are equal; decoding another number at once may round otherwise, by a level at most."""
    one, several = (
        sampled(shapes, tmp_path / f"{batch}.npz", "-n", "5", "--batch", batch, *arguments).astype(int) for batch in "15"
    )
    assert one.shape == several.shape
    assert abs(one - several).max() <= 1


def test_completions_are_of_the_first_signals_as_results_measure_them(shapes: Path, tmp_path: Path) -> None:
    """The same that a longer list begins with; the panels are the reconstruction, what is kept, and a completion with it."""
    experiment, prepared, _ = load_run(session(), shapes)
    subject = Subject(prepared.cache, experiment.evaluate, torch.device("cpu"), lambda: None)
    codes = prepared.cache.codes("test", subject.positions("test")[:3])
    shown = to_uint8(decode_codes(prepared.tokenizer, codes, 4, lambda: None)).permute(0, 2, 3, 1).numpy()
    sampled(shapes, tmp_path / "c.png", "-n", "3", *KEEP)
    with Image.open(tmp_path / "c.png") as picture:
        pixels = np.asarray(picture).astype(int)
    factor, columns = 2, 3
    cell = SIDE * factor + 2
    panels = [[pixels[2 + k * cell :: factor, 2 + i * cell :: factor][:SIDE, :SIDE] for k in range(3)] for i in range(columns)]
    inside = spread(kept(prepared.tokenizer.levels, parse_region("top:0.5"))[0], (SIDE, SIDE)).numpy()
    for (reconstructed, part, completed), expected in zip(panels, shown, strict=True):
        assert abs(reconstructed - expected).max() <= 1
        assert (part[inside] == reconstructed[inside]).all()
        assert (part[~inside] == 128).all()
        assert abs(completed[: SIDE // 2 - 8] - reconstructed[: SIDE // 2 - 8]).mean() < 8  # only the decoder looks further
    few, many = (sampled(shapes, tmp_path / f"{n}.npz", "-n", n, *KEEP) for n in "24")
    assert abs(few.astype(int) - many[:2]).max() <= 1


def test_the_report_tells_the_rate_and_the_precision(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "s.png")
    capsys.readouterr()
    for arguments, what, told in (([], "samples", ""), ([*KEEP, "--precision", "bf16-true"], "completions", ", bf16-true")):
        assert dvgen("sample", str(shapes), "-n", "4", "-o", out, "--accelerator", "cpu", *arguments) == 0
        line = capsys.readouterr().out.strip()
        assert line.startswith(f"4 {what} in ")
        assert line.endswith(f" a second{told}): {out}")
        seconds, rate = float(line.split()[3]), float(line.split("(")[1].split()[0])
        assert rate * seconds == pytest.approx(4, rel=0.02)
    done = document(capsys, "sample", str(shapes), "-n", "2", "-o", out, *KEEP, "--precision", "bf16-true", "--json")
    assert done["seconds"] > 0
    assert {"samples": 2, "file": out, "precision": "bf16-true", "complete": "test", "keep": "top:0.5"}.items() <= done.items()


@pytest.mark.parametrize("size", [[], ["--size", "40x40"]])
@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-true", torch.bfloat16)])
def test_the_prior_alone_draws_in_the_precision_asked_for(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, dtype: torch.dtype, size: list[str]
) -> None:
    """The tokenizer decodes in float32 either way."""
    seen: list[tuple[type, set[torch.dtype]]] = []

    def watched(cls: type[nn.Module], name: str) -> None:
        inner = getattr(cls, name)

        def outer(self: nn.Module, *arguments: Any, **options: Any) -> Any:
            seen.append((cls, {parameter.dtype for parameter in self.parameters()}))
            return inner(self, *arguments, **options)

        monkeypatch.setattr(cls, name, outer)

    watched(CodeModel, "sample")
    watched(Tokenizer, "decode")
    sampled(shapes, tmp_path / "s.npz", "-n", "2", "--precision", precision, *size)
    assert seen == [(CodeModel, {dtype}), (Tokenizer, {torch.float32})]


def test_without_a_place_completions_and_larger_samples_do_not_replace_the_samples(labelled: Path) -> None:
    for arguments in ([], ["--size", "40x40"], KEEP):
        assert dvgen("sample", str(labelled), "--accelerator", "cpu", "--seed", "1", "-n", "1", *arguments) == 0
    made = {path.name for path in (labelled / "samples").iterdir()}
    assert made == {"samples-s1.png", "samples-40x40-s1.png", "completions-s1.png"}


def test_pictures_of_a_folder_and_of_a_file_are_completed(
    labelled: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By name and in their own classes; a file alone is the first of a folder in which it stands alone."""
    keep = ["--keep", "left:0.5"]
    whole = sampled(labelled, tmp_path / "whole.npz", "--complete", str(pictures), *keep)
    assert len(whole) == 12
    first = pictures / "cat" / "01.png"
    one = sampled(labelled, tmp_path / "one.npz", "--complete", str(first), *keep, "--label", "cat")
    assert len(one) == 1
    assert abs(one[0].astype(int) - whole[0]).max() <= 1
    capsys.readouterr()
    code, line = refused(capsys, "sample", str(labelled), "--complete", str(first), *keep)
    assert (code, "class 'all' is none of the run's: cat, dog" in line) == (USAGE, True)
    for absent in (str(tmp_path / "nothing"), ""):
        code, line = refused(capsys, "sample", str(labelled), "--complete", absent, *keep)
        assert (code, "neither one of train, validation, test nor a folder" in line) == (USAGE, True)
    (tmp_path / "text.txt").write_text("no picture")
    for wrong in (tmp_path / "text.txt", tmp_path):
        code, line = refused(capsys, "sample", str(labelled), "--complete", str(wrong), *keep)
        assert code == MISSING
        assert f"no image in {wrong}" in line


def test_originals_are_completed_in_their_own_classes(labelled: Path, tmp_path: Path) -> None:
    """With the label of each, what --label says for all gives the same for those of that class, and for no other."""
    experiment, prepared, _ = load_run(session(), labelled)
    more = ["--guidance", "1000"]  # a prior of three steps hardly knows its classes
    own, cats, dogs = (
        sampled(labelled, tmp_path / f"{i}.npz", "-n", "8", "--complete", "train", "--keep", "top:0.25", *label, *more).astype(
            int
        )
        for i, label in enumerate([[], ["--label", "cat"], ["--label", "dog"]])
    )
    subject = Subject(prepared.cache, experiment.evaluate, torch.device("cpu"), lambda: None)
    labels = prepared.cache.labels("train", subject.positions("train")[:8]).tolist()
    assert set(labels) == {0, 1}
    assert [(own[i] == (cats, dogs)[label][i]).all() for i, label in enumerate(labels)] == [True] * 8
    assert (cats != dogs).any()
