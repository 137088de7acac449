"""Sound as files, pictures and numbers: what is written is what another reader reads, and tones stand where they sound."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile
from scipy.signal import ShortTimeFFT, get_window
from torch import Tensor
from toy_components import NoiseDataset

from dvgen.blocks.spectrogram import FLOOR, spectrogram
from dvgen.errors import ConfigError, DataError, NonFiniteError, PluginError, ShapeError
from dvgen.evaluation import sounds
from dvgen.evaluation.completion import Completions
from dvgen.evaluation.exhibits import (
    place_for_samples,
    save_completions,
    save_neighbours,
    save_reconstructions,
    save_samples,
)
from dvgen.evaluation.fidelity import fidelity_of
from dvgen.evaluation.frechet import feature_table, frechet_key
from dvgen.evaluation.pictures import GAP
from dvgen.evaluation.sounds import CAP, from_int16, snr, snr_key, spectrogram_pictures, to_int16
from dvgen.interfaces.features import Features

RATE = 8000


def sine(frequency: float, amplitude: float = 1.0, length: int = 2048) -> Tensor:
    """A sine (1, 1, length) at 8000 Hz."""
    return amplitude * torch.sin(2 * math.pi * frequency * torch.arange(length, dtype=torch.float64) / RATE)[None, None]


def tiny_set(rate: int | None = RATE) -> NoiseDataset:
    """A toy set of sound."""
    dataset = NoiseDataset(shape=(1, 256))
    dataset.rate = rate
    return dataset


def noise(n: int, length: int = 300, channels: int = 1) -> Tensor:
    return torch.rand(n, channels, length, generator=torch.Generator().manual_seed(n)) * 2 - 1


# ------------------------------------------------------------------------------------------ 16 bits


def test_all_65536_numbers_survive_and_ends_are_clamped() -> None:
    numbers = torch.arange(-32768, 32768).to(torch.int16)
    assert torch.equal(to_int16(from_int16(numbers)), numbers)
    assert from_int16(numbers).abs().max() == 1
    assert to_int16(torch.tensor([-2.0, -1.0, 1.0, 2.0])).tolist() == [-32768, -32768, 32767, 32767]
    assert to_int16(torch.tensor([0.49, 0.51, -0.49, -0.51]) / 32768).tolist() == [0, 1, 0, -1]
    for bad in (math.nan, math.inf):
        with pytest.raises(NonFiniteError):
            to_int16(torch.tensor([0.0, bad]))


def test_the_ratio_is_the_closed_form_sound_by_sound() -> None:
    """Noise a tenth and a hundredth as large as the signal: 20 and 40 dB; twice the signal: 0 dB."""
    signals = from_int16((noise(3) * 20000).round().div(100).round().mul(100).to(torch.int16))
    found = snr(torch.stack([signals[0] * 1.1, signals[1] * 0.99, signals[2] * 2]).clamp(-1, 1), signals)
    assert found.dtype == torch.float64
    assert found[:2].tolist() == pytest.approx([20, 40], abs=1e-6)
    half = signals[2:] / 2
    assert snr(half * 2, half).tolist() == pytest.approx([0], abs=1e-3)


def test_it_is_the_ratio_of_torchmetrics_on_what_was_rounded() -> None:
    from torchmetrics.functional.audio import signal_noise_ratio

    one, two = from_int16(to_int16(noise(4))), from_int16(to_int16(noise(5)[:4]))
    expected = signal_noise_ratio(one.double(), two.double())[:, 0]
    torch.testing.assert_close(snr(one, two), expected, rtol=1e-6, atol=1e-6)


def test_a_perfect_sound_is_capped_silence_has_no_ratio_and_shapes_must_agree() -> None:
    signals = torch.cat([noise(1), torch.zeros(1, 1, 300)])
    assert snr(signals + 1e-6, signals).tolist()[0] == CAP
    assert snr(signals, signals).isnan().tolist() == [False, True]
    assert snr(signals + 0.1, signals).isnan().tolist() == [False, True]
    with pytest.raises(ShapeError, match="one shape"):
        snr(signals, signals[:1])


def test_the_mean_leaves_silent_sounds_out_and_says_so() -> None:
    measured = fidelity_of(tiny_set())
    found = measured.measurements({"snr": torch.tensor([10.0, math.nan, 30.0])}, "ab", "test")["snr"]
    assert (found.value, found.n, found.key) == (20.0, 2, snr_key("ab", "test"))
    assert found.key.higher_is_better
    protocol = dict(found.key.protocol)
    assert protocol["rounding"] == "16 bits, nearest"
    assert "without silent" in protocol["mean"]
    with pytest.raises(DataError, match="all 2 sounds of the test split are silent"):
        measured.measurements({"snr": torch.full((2,), math.nan)}, "ab", "test")
    assert "psnr" in fidelity_of(NoiseDataset()).known


def test_sound_that_does_not_say_its_rate_is_a_fault_of_its_plugin() -> None:
    with pytest.raises(PluginError, match=r"NoiseDataset.*`rate`"):
        fidelity_of(tiny_set(rate=None))


class Seen(Features):
    """The smallest value of each signal."""

    dim = 1
    label = "seen"
    weights_hash = "00"

    def forward(self, signals: Tensor) -> Tensor:
        return signals.flatten(1).amin(dim=1, keepdim=True)


def test_features_are_given_sound_of_16_bits_and_images_of_8() -> None:
    value = -0.123456789
    sound, image = (feature_table(Seen(), [torch.full(shape, value)]) for shape in ((1, 1, 9), (1, 1, 3, 3)))
    assert sound.item() == round(value * 32768) / 32768
    assert image.item() == pytest.approx(round((value + 1) * 127.5) / 127.5 - 1, abs=1e-7)
    protocols = [dict(frechet_key(Seen(), "ab", (9, 9), {}, bits=bits).protocol)["rounding"] for bits in (8, 16)]
    assert protocols == ["8 bits, nearest", "16 bits, nearest"]


# ------------------------------------------------------------------------------------------ spectrograms


@pytest.mark.parametrize("band", [3, 20, 64, 127])
@pytest.mark.parametrize("amplitude", [1.0, 0.1])
def test_a_tone_has_its_peak_in_its_band_at_its_loudness(band: int, amplitude: float) -> None:
    """A sine in the middle of band k = f * window / rate has 20 log10(amplitude) dB there and 6 dB less beside it."""
    found = spectrogram(sine(band * RATE / 256, amplitude))[0, 0]
    assert found.shape == (129, 1 + 2048 // 64)
    inner = found[:, 4:-4]
    assert (inner.argmax(dim=0) == band).all()
    loud = 20 * math.log10(amplitude)
    torch.testing.assert_close(inner[band], torch.full_like(inner[band], loud), rtol=0, atol=1e-6)
    torch.testing.assert_close(inner[band - 1], torch.full_like(inner[band], loud - 20 * math.log10(2)), rtol=0, atol=1e-6)
    assert inner[(torch.arange(129) - band).abs() > 3].max() == FLOOR


def test_it_is_scipys_spectrogram() -> None:
    signals = noise(2, 1000, channels=3).double()
    window = get_window("hann", 256)
    transform = ShortTimeFFT(window, hop=50, fs=RATE)
    expected = np.abs(transform.stft(signals.numpy(), p0=0, p1=21)) * 2 / window.sum()
    found = spectrogram(signals, hop=50)
    assert found.shape == (2, 3, 129, 21)
    np.testing.assert_allclose(found.numpy(), 20 * np.log10(np.maximum(expected, 1e-4)), atol=1e-8)


def test_silence_is_the_floor_and_short_sounds_have_a_spectrogram_too() -> None:
    assert (spectrogram(torch.zeros(1, 1, 500)) == FLOOR).all()
    assert spectrogram(noise(1, 10)).isfinite().all()


@pytest.mark.parametrize("length", [100, 2048, 50_000])
def test_pictures_show_high_tones_above_low_ones_and_keep_their_size(length: int) -> None:
    low, high = spectrogram_pictures(torch.cat([sine(500, length=length), sine(3000, length=length)]))
    assert low.shape == high.shape
    assert low.shape[:2] == (3, 128)
    assert low.shape[2] <= 128
    middle = low.shape[2] // 2
    rows = [int(picture.sum(dim=0)[:, middle].argmax()) for picture in (low, high)]
    assert rows == pytest.approx([127 - 500 / RATE * 256, 127 - 3000 / RATE * 256], abs=1)


def test_time_runs_to_the_right() -> None:
    signals = torch.cat([torch.zeros(1, 1, 1024), sine(1000, length=1024)], dim=2)
    brightness = spectrogram_pictures(signals)[0].sum(dim=(0, 1))
    assert brightness[100] > brightness[20]


def test_louder_is_lighter_all_the_way() -> None:
    """Perceived lightness (CIE 1976, from sRGB) rises by about as much at every step, so that grey prints read the same."""
    amplitudes = torch.logspace(-3.9, 0, 40, dtype=torch.float64)
    pictures = spectrogram_pictures(torch.cat([sine(1000, float(a)) for a in amplitudes]))
    colours = (pictures[:, :, 127 - 32, 64].double() + 1) / 2
    linear = torch.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    luminance = linear @ torch.tensor([0.2126, 0.7152, 0.0722], dtype=torch.float64)
    lightness = torch.where(luminance > 216 / 24389, 116 * luminance ** (1 / 3) - 16, luminance * 24389 / 27)
    steps = lightness.diff()
    assert (steps > 0.5).all()
    assert steps.max() < 2.5 * steps.mean()


# ------------------------------------------------------------------------------------------ files


def test_samples_are_wav_files_that_another_reader_reads(tmp_path: Path) -> None:
    signals = noise(12, channels=2) * 1.2
    save_samples(tmp_path / "deep" / "out", signals, tiny_set())
    folder = tmp_path / "deep" / "out"
    assert sorted(path.name for path in folder.glob("*.wav")) == [f"{i:03d}.wav" for i in range(12)]
    for i in range(12):
        rate, samples = wavfile.read(folder / f"{i:03d}.wav")
        assert (rate, samples.dtype) == (RATE, np.int16)
        expected = np.clip(np.rint(signals[i].double().numpy() * 32768), -32768, 32767)
        assert np.array_equal(samples.T, expected)
    with Image.open(folder / "spectrograms.png") as picture:
        assert picture.format == "PNG"
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


def test_originals_stand_above_reconstructions_and_beside_them_as_files(tmp_path: Path) -> None:
    originals, reconstructed = sine(3000).repeat(3, 1, 1), sine(500).repeat(3, 1, 1)
    save_reconstructions(tmp_path / "reconstructions", originals, reconstructed, tiny_set())
    folder = tmp_path / "reconstructions"
    names = {f"{i:03d}-{kind}.wav" for i in range(3) for kind in ("original", "reconstructed")}
    assert {path.name for path in folder.glob("*.wav")} == names
    for kind, signals in (("original", originals), ("reconstructed", reconstructed)):
        assert (wavfile.read(folder / f"002-{kind}.wav")[1] == to_int16(signals[2, 0]).numpy()).all()
    with Image.open(folder / "spectrograms.png") as picture:
        pixels = np.asarray(picture).astype(int).sum(axis=2)
    above, below = pixels[GAP : GAP + 128, GAP + 64], pixels[2 * GAP + 128 : 2 * (GAP + 128), GAP + 64]
    assert [above.argmax(), below.argmax()] == pytest.approx([127 - 96, 127 - 16], abs=1)


def test_a_completed_sound_lies_beside_what_was_kept_and_the_reconstruction(tmp_path: Path) -> None:
    """The folder may be written again; alone, it is one file; its spectrograms stand below each other in that order."""
    kinds = Completions(*(sine(frequency).repeat(2, 1, 1) for frequency in (3000, 500, 2000)))
    for _ in range(2):
        save_completions(tmp_path / "c", kinds, tiny_set())
    names = {f"{i:03d}-{kind}.wav" for i in range(2) for kind in ("reconstructed", "kept", "completed")}
    assert {path.name for path in (tmp_path / "c").glob("*.wav")} == names
    for kind, signals in kinds._asdict().items():
        assert (wavfile.read(tmp_path / "c" / f"001-{kind}.wav")[1] == to_int16(signals[1, 0]).numpy()).all()
    with Image.open(tmp_path / "c" / "spectrograms.png") as picture:
        pixels = np.asarray(picture).astype(int).sum(axis=2)
    rows = [int(pixels[GAP + k * (GAP + 128) :][:128, GAP + 64].argmax()) for k in range(3)]
    assert rows == pytest.approx([127 - 96, 127 - 16, 127 - 64], abs=1)
    save_completions(tmp_path / "one.wav", Completions(*(sounds[:1] for sounds in kinds)), tiny_set())
    assert (wavfile.read(tmp_path / "one.wav")[1] == to_int16(kinds.completed[0, 0]).numpy()).all()


def test_images_are_written_as_before(tmp_path: Path) -> None:
    images, dataset = torch.zeros(2, 3, 8, 8), NoiseDataset()
    save_samples(place_for_samples(None, tmp_path / "samples", 2, dataset), images, dataset)
    save_reconstructions(tmp_path / "reconstructions", images, images, dataset)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reconstructions.png", "samples.png"]


def test_one_sound_may_be_one_file(tmp_path: Path) -> None:
    dataset, path = tiny_set(), tmp_path / "new" / "one.WAV"
    assert place_for_samples(path, tmp_path / "name", 1, dataset) == path
    save_samples(path, noise(1), dataset)
    save_samples(path, noise(1) / 2, dataset)
    assert (wavfile.read(path)[1] == to_int16(noise(1) / 2)[0, 0].numpy()).all()
    assert [other.name for other in path.parent.iterdir()] == ["one.WAV"]
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(ConfigError, match=r"is a folder; expected a \.wav file"):
        place_for_samples(tmp_path / "folder.wav", tmp_path, 1, dataset)


@pytest.mark.parametrize(("name", "n"), [("grid.png", 4), ("grid.PNG", 1), ("one.wav", 2), ("a.mp3", 1), ("file", 3)])
def test_sounds_go_into_a_folder_and_into_nothing_else(tmp_path: Path, name: str, n: int) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="expected a folder, such as"):
        place_for_samples(tmp_path / name, tmp_path / "samples", n, tiny_set())
    assert place_for_samples(None, tmp_path / "samples", n, tiny_set()) == tmp_path / "samples"


def test_a_folder_of_sounds_is_replaced_and_a_folder_with_anything_else_never_is(tmp_path: Path) -> None:
    dataset, folder = tiny_set(), tmp_path / "out"
    folder.mkdir()
    save_samples(folder, noise(5), dataset)
    save_samples(folder, noise(3), dataset)
    assert len(list(folder.glob("*.wav"))) == 3
    (folder / "thesis.txt").write_text("only copy")
    with pytest.raises(ConfigError, match=r"thesis\.txt"):
        place_for_samples(folder, tmp_path, 3, dataset)
    with pytest.raises(ConfigError, match=r"thesis\.txt"):
        save_samples(folder, noise(2), dataset)
    assert len(list(folder.glob("*.wav"))) == 3
    assert (folder / "thesis.txt").read_text() == "only copy"


@pytest.mark.parametrize("single", [False, True])
def test_sounds_that_cannot_be_written_leave_nothing_and_the_old_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, single: bool
) -> None:
    dataset, place = tiny_set(), tmp_path / ("one.wav" if single else "out")
    save_samples(place, noise(1), dataset)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    asides: list[str] = []

    def full(path: Path, *arguments: object) -> None:
        path.write_bytes(b"half")
        asides.extend(other.name for other in tmp_path.iterdir() if other != place)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sounds, "write_wav", full)
    with pytest.raises(OSError, match="No space"):
        save_samples(place, noise(1) / 2, dataset)
    assert len(asides) == 1
    assert str(os.getpid()) in asides[0]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_numbers_of_sounds_are_those_of_their_files_and_the_rate_is_with_them(tmp_path: Path) -> None:
    dataset, signals = tiny_set(), noise(5, channels=2) * 1.2
    save_samples(place_for_samples(tmp_path / "sounds.npz", tmp_path, 5, dataset), signals, dataset)
    save_samples(tmp_path / "sounds", signals, dataset)
    with np.load(tmp_path / "sounds.npz", allow_pickle=False) as arrays:
        found, rate = arrays["arr_0"], arrays["rate"].item()
    assert (found.shape, found.dtype, rate) == ((5, 300, 2), np.int16, RATE)
    for i in range(5):
        assert (found[i] == wavfile.read(tmp_path / "sounds" / f"{i:03d}.wav")[1]).all()
    with pytest.raises(ShapeError, match="expected sounds"):
        save_samples(tmp_path / "sounds.npz", torch.zeros(2, 1, 8, 8), dataset)


def test_neighbours_of_sounds_are_spectrograms_one_above_the_other(tmp_path: Path) -> None:
    """16 of 20 in two pairs of rows: high tones over the low ones that are nearest."""
    save_neighbours(tmp_path / "neighbours", sine(3000).repeat(20, 1, 1), sine(500).repeat(20, 1, 1), tiny_set())
    assert [path.name for path in tmp_path.iterdir()] == ["neighbours.png"]
    with Image.open(tmp_path / "neighbours.png") as picture:
        pixels = np.asarray(picture).astype(int).sum(axis=2)
    cell = 128 + GAP
    assert pixels.shape[0] == 4 * cell + GAP
    for row, band in enumerate((96, 16, 96, 16)):
        column = pixels[GAP + row * cell : GAP + row * cell + 128, GAP + 64]
        assert column.argmax() == pytest.approx(127 - band, abs=1)
