"""Sound from one end to the other: levels of one axis through quantizers, priors, measures and files, by the same commands."""

import json
from pathlib import Path

import pytest
from scipy.io import wavfile
from toy_runs import dvgen

SETTINGS = (
    "data.timbres=2", "data.envelopes=1", "data.pitches=3", "data.delays=2",
    "encoder.channels=8", "encoder.residual_channels=4", "encoder.residual_blocks=1", "encoder.downsample=256",
    "decoder.channels=8", "decoder.residual_channels=4", "decoder.residual_blocks=1", "decoder.downsample=256",
    "quantizer.num_codes=8", "quantizer.dim=4",
    "train.tokenizer.batch=8", "train.prior.batch=8",
    "evaluate.features=rand-sound", "evaluate.samples=70", "evaluate.batch=32", "evaluate.grid=3",
)  # fmt: skip
"""72 phrases of 8 codes each."""
GPT = ("prior.dim=8", "prior.layers=1", "prior.heads=2")
USAGE = 2


def options(*assignments: str) -> list[str]:
    sets = [part for text in (*SETTINGS, *assignments) for part in ("--set", text)]
    tones = ["--data", "tones", "--encoder", "vqvae-1d", "--decoder", "vqvae-1d"]
    return [*tones, *sets, "--accelerator", "cpu", "--tokenizer-budget", "steps:3", "--budget", "steps:3"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run."""
    folder = tmp_path_factory.mktemp("sound") / "run"
    assert dvgen("train", *options(*GPT), "--out", str(folder)) == 0
    return folder


def test_the_codes_have_one_axis_and_an_exact_likelihood(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dvgen("evaluate", str(run), "--accelerator", "cpu", "--json") == 0
    (group,) = json.loads(capsys.readouterr().out)["groups"]
    assert [level["grid"] for level in group["tokenizer"]["levels"]] == [[8]]
    assert {"snr", "usage/codes"} <= set(group["tokenizer"]["measurements"])
    assert "psnr" not in group["tokenizer"]["measurements"]
    (row,) = group["rows"]
    assert 0 < row["measurements"]["nll"]["value"] < 3
    assert row["measurements"]["excess"]["value"] >= 0
    assert (run / "samples" / "samples" / "002.wav").is_file()
    assert (run / "tokenizer" / "samples" / "reconstructions" / "002-reconstructed.wav").is_file()


def test_samples_are_sounds_of_the_length_and_the_rate_of_the_data(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dvgen("sample", str(run), "-n", "3", "--accelerator", "cpu", "--json") == 0
    place = json.loads(capsys.readouterr().out)["file"]
    assert place == str(run / "samples" / "samples-s0")
    rate, samples = wavfile.read(Path(place) / "002.wav")
    assert (rate, samples.shape) == (8000, (2048,))
    assert (Path(place) / "spectrograms.png").is_file()
    one = tmp_path / "one.wav"
    assert dvgen("sample", str(run), "-n", "1", "-o", str(one), "--accelerator", "cpu") == 0
    assert (wavfile.read(one)[1] == wavfile.read(Path(place) / "000.wav")[1]).all()


def test_sound_is_drawn_longer_and_completed(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its size is a number of samples; what is not kept is silent, and nothing but left, right and outside can be kept."""
    assert dvgen("sample", str(run), "-n", "2", "--size", "4096", "-o", str(tmp_path / "long"), "--accelerator", "cpu") == 0
    assert wavfile.read(tmp_path / "long" / "001.wav")[1].shape == (4096,)
    completion = ["sample", str(run), "-n", "2", "--complete", "test", "--accelerator", "cpu"]
    assert dvgen(*completion, "--keep", "left:0.5", "-o", str(tmp_path / "ends")) == 0
    kinds = [wavfile.read(tmp_path / "ends" / f"001-{kind}.wav")[1] for kind in ("reconstructed", "kept", "completed")]
    assert [sound.shape for sound in kinds] == [(2048,)] * 3
    assert (kinds[1][:1024] == kinds[0][:1024]).all()
    assert (kinds[1][1024:] == 0).all()
    capsys.readouterr()
    for wrong, told in (("top:0.5", "sound has no top"), ("left:0.01", "no code of the coarsest grid, 8")):
        assert dvgen(*completion, "--keep", wrong, "-o", str(tmp_path / "wrong")) == USAGE
        assert told in capsys.readouterr().err
    assert not (tmp_path / "wrong").exists()


def test_a_picture_of_sound_is_refused_with_what_to_give_instead(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert dvgen("sample", str(run), "-n", "3", "-o", str(tmp_path / "grid.png"), "--accelerator", "cpu") == USAGE
    assert f"expected a folder, such as {tmp_path / 'grid'}" in capsys.readouterr().err.replace("\n", "")


def test_priors_for_images_are_compared_on_one_axis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two priors on the same codes, by the same command as for images, and paired by sound."""
    capsys.readouterr()
    assert dvgen("compare", "--prior", "gpt,pixelsnail", *options(), "--out", str(tmp_path / "c"), "--json") == 0
    (group,) = json.loads(capsys.readouterr().out)["groups"]
    assert sorted(row["prior"] for row in group["rows"]) == ["gpt", "pixelsnail"]
    (verdict,) = group["verdicts"]
    assert sorted(verdict["pair"]) == ["gpt", "pixelsnail"]
    assert len(list(tmp_path.glob("c/rows/*/samples/samples/spectrograms.png"))) == 2


def test_features_of_images_are_refused_for_sound_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    code = dvgen("compare", "--prior", "gpt", *options("evaluate.features=rand"), "--out", str(tmp_path / "c"))
    said = capsys.readouterr().err
    assert code == USAGE
    assert all(part in said for part in ("features 'rand'", "expected images", "rand-sound"))
    assert not (tmp_path / "c" / "tokenizers").exists()
