"""Any folder of wav files: every width of sample, places that say class and part, and names of what cannot be used."""

import os
import struct
import wave

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from dvgen.config import structure
from dvgen.errors import ConfigError, DataError
from dvgen_sound import folder
from dvgen_sound.folder import SoundFolder
from dvgen_sound.wav import decode

RATE, LENGTH = 8000, 512


def opened(location, length=LENGTH, rate=RATE):
    return SoundFolder(SoundFolder.Config(length=length, rate=rate), location=str(location))


def save(path, samples=None, rate=RATE, width=2):
    """Whole numbers (t,) or (t, channels) of `width` bytes, by the standard library."""
    samples = np.arange(LENGTH) if samples is None else np.asarray(samples)
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        raw = samples.astype("<i4").tobytes()
        file.writeframes(b"".join(raw[i : i + width] for i in range(0, len(raw), 4)))
    return path


def numbers(dataset, indices=None):
    """16-bit samples (n, length)."""
    return (dataset.signals(range(len(dataset)) if indices is None else indices)[:, 0] * 32768).to(torch.int64)


# ------------------------------------------------------------------------------------------ samples


def test_sixteen_bits_of_this_rate_come_back_as_they_are(tmp_path):
    samples = np.random.default_rng(0).integers(-32768, 32768, LENGTH)
    samples[:2] = -32768, 32767
    save(tmp_path / "a.wav", samples)
    signals = opened(tmp_path).signals([0])
    assert (signals.dtype, signals.shape) == (torch.float32, (1, 1, LENGTH))
    assert (signals[0, 0] * 32768).tolist() == samples.tolist()


@pytest.mark.parametrize(("width", "centre"), [(1, 128), (3, 0), (4, 0)])
def test_other_widths_are_brought_to_the_same_range(tmp_path, width, centre):
    """8 bits are unsigned; the widest range of every width is that of 16 bits."""
    samples = np.random.default_rng(0).integers(-(2 ** (8 * width - 1)), 2 ** (8 * width - 1), LENGTH)
    save(tmp_path / "a.wav", samples + centre, width=width)
    expected = np.clip(np.rint(samples * 2.0 ** (16 - 8 * width)), -32768, 32767)
    assert numbers(opened(tmp_path))[0].tolist() == expected.tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_are_taken_as_they_are_and_clipped(tmp_path, dtype):
    samples = np.linspace(-1.5, 1.5, LENGTH).astype(dtype)
    wavfile.write(tmp_path / "a.wav", RATE, samples)
    expected = np.clip(np.rint(samples.astype(np.float64) * 32768), -32768, 32767)
    assert numbers(opened(tmp_path))[0].tolist() == expected.tolist()


def test_channels_are_averaged(tmp_path):
    left, right = np.arange(LENGTH), 3 * np.arange(LENGTH)
    save(tmp_path / "a.wav", np.stack([left, right], axis=1))
    assert numbers(opened(tmp_path))[0].tolist() == (2 * left).tolist()


@pytest.mark.parametrize(("found", "wanted"), [(44100, 8000), (16000, 8000), (8000, 16000), (11025, 8000)])
def test_a_tone_of_another_rate_keeps_its_frequency_and_its_loudness(tmp_path, found, wanted):
    """Against the same sine computed at the wanted rate, away from the ends."""
    samples = 16000 * np.sin(2 * np.pi * 1000 * np.arange(found) / found)
    save(tmp_path / "a.wav", np.rint(samples), rate=found)
    clip = numbers(opened(tmp_path, length=4096, rate=wanted))[0].double().numpy()
    expected = 16000 * np.sin(2 * np.pi * 1000 * np.arange(4096) / wanted)
    assert np.abs(clip - expected)[64:].max() < 16000 * 0.01


def test_frequencies_above_half_the_new_rate_are_taken_out_and_not_folded_down(tmp_path):
    save(tmp_path / "a.wav", np.rint(16000 * np.sin(2 * np.pi * 7000 * np.arange(44100) / 44100)), rate=44100)
    assert numbers(opened(tmp_path, length=4096))[0][64:].abs().max() < 160


def test_long_files_are_cut_into_whole_clips_in_their_order(tmp_path):
    save(tmp_path / "b.wav", np.arange(3 * LENGTH + 100))
    save(tmp_path / "a.wav", -np.arange(LENGTH))
    dataset = opened(tmp_path)
    found = numbers(dataset)
    assert found[0].tolist() == (-np.arange(LENGTH)).tolist()
    assert found[1:].flatten().tolist() == list(range(3 * LENGTH))
    assert (dataset.shape, dataset.rate, len(dataset)) == ((1, LENGTH), RATE, 4)


# ------------------------------------------------------------------------------------------ classes, parts, faults


def test_sub_folders_are_classes_and_top_folders_may_be_parts(tmp_path):
    save(tmp_path / "train" / "cat" / "a.wav", np.zeros(2 * LENGTH))
    save(tmp_path / "train" / "ant" / "b.WAV")
    save(tmp_path / "test" / "cat" / "c.wave", np.zeros(3 * LENGTH))
    save(tmp_path / "val" / "ant" / "d.wav")
    dataset = opened(tmp_path)
    assert dataset.classes == ("ant", "cat")
    assert dataset.labels.tolist() == [0, 1, 1, 0, 1, 1, 1]
    assert dataset.labels.dtype == torch.int64
    assert dataset.parts == {"train": (0, 3), "validation": (3, 4), "test": (4, 7)}
    save(tmp_path / "stray.wav")
    with pytest.raises(DataError, match=r"beside it is 'stray\.wav'"):
        opened(tmp_path)


def test_what_cannot_be_used_is_skipped_and_named(tmp_path):
    good = save(tmp_path / "good.wav").read_bytes()
    (tmp_path / "empty.wav").touch()
    long = save(tmp_path / "cut.wav", np.zeros(3 * LENGTH))
    long.write_bytes(long.read_bytes()[:-100])  # still long enough for two clips
    (tmp_path / "header.wav").write_bytes(good[:30])
    (tmp_path / "text.wav").write_text("no sound")
    os.mkfifo(tmp_path / "pipe.wav")
    save(tmp_path / "short.wav", np.zeros(LENGTH - 1))
    save(tmp_path / "slow.wav", rate=10)
    wavfile.write(tmp_path / "nan.wav", RATE, np.full(LENGTH, np.nan, dtype=np.float32))
    law = bytearray(good)
    law[20:22] = struct.pack("<H", 7)  # mu-law, which is compressed
    (tmp_path / "law.wav").write_bytes(law)
    (tmp_path / "notes.txt").write_text("not looked at")
    dataset = opened(tmp_path)
    names = ("cut", "empty", "header", "law", "nan", "pipe", "short", "slow", "text")
    assert dataset.skipped == tuple(f"{name}.wav" for name in names)
    assert len(dataset) == 1


def test_a_chunk_of_another_program_costs_neither_the_sound_nor_a_warning(tmp_path):
    whole = save(tmp_path / "a.wav").read_bytes()
    chunk = b"bext" + struct.pack("<I", 4) + b"note"
    (tmp_path / "a.wav").write_bytes(whole[:4] + struct.pack("<I", len(whole) + 4) + whole[8:12] + chunk + whole[12:])
    dataset = opened(tmp_path)
    assert (dataset.skipped, numbers(dataset)[0].tolist()) == ((), list(range(LENGTH)))


def test_missing_and_empty_folders_say_what_was_looked_for_and_where(tmp_path):
    with pytest.raises(ConfigError, match="--data sound-folder:DIR"):
        SoundFolder(SoundFolder.Config(), location=None)
    with pytest.raises(DataError, match=r"no folder .*nowhere.*\.wav"):
        opened(tmp_path / "nowhere")
    with pytest.raises(DataError, match=rf"no wav file in {tmp_path}.*\.wav"):
        opened(tmp_path)
    save(tmp_path / "a.wav", np.zeros(7))
    with pytest.raises(DataError, match=r"none of the 1 wav files .*a\.wav: 7 samples at 8000 a second, shorter than .* 512"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("samples", "rate", "fault"),
    [((), RATE, "holds no samples"), (range(LENGTH), 767999, "767999 samples a second.* too costly")],
)
def test_a_file_that_says_nothing_or_costs_too_much_is_refused_at_once(tmp_path, samples, rate, fault):
    """A filter of fifteen million taps for 512 samples, where the rates share no factor."""
    data = save(tmp_path / "a.wav", samples, rate=rate).read_bytes()
    with pytest.raises(ValueError, match=fault):
        decode(data, 16000)


@pytest.mark.parametrize(("found", "wanted"), [(44100, 48000), (11025, 16000), (22254, 8000), (192000, 22050), (8363, 16000)])
def test_rates_in_use_can_be_brought_to_each_other(tmp_path, found, wanted):
    data = save(tmp_path / "a.wav", rate=found).read_bytes()
    assert len(decode(data, wanted)) == -(-LENGTH * wanted // found)


def test_length_and_rate_are_fields_with_bounds():
    for table in ({"length": 63}, {"rate": 999}, {"rate": 1_000_000}):
        with pytest.raises(ConfigError, match=next(iter(table))):
            structure(table, SoundFolder.Config)


# ------------------------------------------------------------------------------------------ signals and digest


@pytest.fixture
def mixed(tmp_path):
    for i in range(6):
        draw = np.random.default_rng(i).integers(-9000, 9000, (i + 1) * 300)
        save(tmp_path / f"c{i % 2}" / f"{i}.wav", draw, rate=(8000, 16000)[i % 3 == 0])
    return tmp_path


def test_a_set_too_large_to_keep_is_read_again_to_the_same(mixed, monkeypatch):
    kept = opened(mixed)
    monkeypatch.setattr(folder, "MEMORY", 100)
    again = opened(mixed)
    rows = [5, 0, 0, 3, len(kept) - 1]
    assert again._clips is None
    assert len(kept) == len(again) > 5
    assert torch.equal(kept.signals(rows), kept.signals(range(len(kept)))[rows])
    assert torch.equal(again.signals(rows), kept.signals(rows))
    assert (kept.digest(), kept.skipped) == (again.digest(), again.skipped)
    victim = again._entries[0].name
    save(mixed / victim, np.ones(5 * LENGTH))
    with pytest.raises(DataError, match=f"{victim}: could be read when .* contents have changed"):
        again.signals([0])
    (mixed / victim).unlink()
    with pytest.raises(DataError, match=f"{victim}: could be read when .* not a file"):
        again.signals([0])


def test_the_digest_follows_bytes_names_and_transform_and_nothing_else(mixed, tmp_path_factory):
    digests = [opened(mixed).digest(), opened(mixed, length=256).digest(), opened(mixed, rate=4000, length=128).digest()]
    copy = tmp_path_factory.mktemp("copy") / "elsewhere"
    os.rename(mixed, copy)
    assert opened(copy).digest() == digests[0]
    (copy / "c0" / "4.wav").rename(copy / "c0" / "44.wav")
    digests.append(opened(copy).digest())
    save(copy / "c0" / "44.wav")
    digests.append(opened(copy).digest())
    assert len(set(digests)) == 5
