"""Phrases of two notes that agree: all of them, each once, and the agreement can be heard in the samples."""

import itertools

import numpy as np
import pytest
import torch

from dvgen.config import structure
from dvgen.errors import ConfigError
from dvgen_sound import tones
from dvgen_sound.tones import DELAYS, ENVELOPES, HALF, NOTE, PITCHES, RATE, TIMBRES, Tones

FACTORS = (len(TIMBRES), len(ENVELOPES), len(PITCHES), len(DELAYS), len(PITCHES), len(DELAYS))
SIZE = int(np.prod(FACTORS))


@pytest.fixture(scope="module")
def phrases():
    return Tones(Tones.Config(), location=None)


@pytest.fixture(scope="module")
def samples(phrases):
    """Whole numbers (n, 2048)."""
    scaled = phrases.signals(range(len(phrases)))[:, 0] * 32768
    assert torch.equal(scaled, scaled.round())
    return scaled.to(torch.int16)


def phrase(index):
    """Timbre, envelope, and pitch and delay of both notes, counted by hand."""
    return next(itertools.islice(itertools.product(*map(range, FACTORS)), index, None))


@pytest.mark.parametrize("index", [-1, SIZE])
def test_an_index_that_there_is_not_is_refused(phrases, index):
    """It is not wrapped round to another phrase."""
    with pytest.raises(IndexError, match=f"0 to {SIZE - 1}"):
        phrases.signals([0, index])


def test_the_set_is_every_phrase_once_and_all_differ(phrases, samples):
    assert len(phrases) == SIZE == 6912 == len(samples.unique(dim=0))
    assert phrases.exhaustive
    assert (phrases.shape, phrases.parts, phrases.rate) == ((1, 2048), {"train": (0, SIZE)}, RATE)


def test_the_label_is_the_timbre_and_classes_are_equally_frequent(phrases):
    assert phrases.classes == tuple(TIMBRES)
    assert torch.bincount(phrases.labels).tolist() == [SIZE // 4] * 4
    for index in (0, 1727, 1728, 5000, SIZE - 1):
        assert phrases.labels[index] == phrase(index)[0]


def test_signals_are_floats_within_the_range_and_pure(phrases):
    rows = [SIZE - 1, 3, 3, 4000]
    signals = phrases.signals(rows)
    assert signals.dtype == torch.float32
    assert 0.3 < signals.abs().max() < 0.9
    assert torch.equal(phrases.signals(range(SIZE))[rows], signals)
    assert torch.equal(Tones(Tones.Config(), location=None).signals(rows), signals)


def test_both_halves_hold_a_note_of_the_timbre_and_pitch_that_the_index_says(samples):
    """The strength of each harmonic, by a float64 Fourier sum at its very frequency, is the loudness in the table."""
    time = np.arange(NOTE) / RATE
    taper = np.hanning(NOTE)
    loudest = {name: max(loudnesses) for name, loudnesses in TIMBRES.items()}
    for index in range(0, SIZE, 307):
        timbre, _, *notes = phrase(index)
        name = tuple(TIMBRES)[timbre]
        for half, (pitch, delay) in enumerate((notes[:2], notes[2:])):
            start = half * HALF + DELAYS[delay]
            note = samples[index, start : start + NOTE].double().numpy()
            strength = [abs((note * taper) @ np.exp(-2j * np.pi * h * PITCHES[pitch] * time)) for h in range(1, 7)]
            found = np.array(strength) / max(strength) * loudest[name]
            expected = np.pad(np.array(TIMBRES[name], dtype=float), (0, 6 - len(TIMBRES[name])))
            assert np.abs(found - expected).max() < 0.03 * loudest[name], (index, half)
            silent = samples[index, half * HALF : (half + 1) * HALF].clone()
            silent[DELAYS[delay] : DELAYS[delay] + NOTE] = 0
            assert not silent.any()


def test_envelopes_fall_rise_and_hold_and_begin_and_end_softly(samples):
    each = SIZE // 12
    energies = {}
    for i, name in enumerate(ENVELOPES):
        note = samples[i * each, :NOTE].double()
        energies[name] = [float(part.square().mean()) for part in note.split(NOTE // 4)]
        assert note[[0, -1]].abs().max() < 500
    assert energies["pluck"] == sorted(energies["pluck"], reverse=True)
    assert energies["swell"][:3] == sorted(energies["swell"][:3])
    assert max(energies["hold"][1:3]) < 1.05 * min(energies["hold"][1:3])


def test_no_harmonic_is_above_half_the_rate_and_delays_are_off_the_grid_of_a_tokenizer():
    assert max(PITCHES) * max(map(len, TIMBRES.values())) < RATE / 2
    assert all(sum(loudnesses) <= 32 for loudnesses in TIMBRES.values())
    assert sum(delay % 64 == 0 for delay in DELAYS) <= 1
    assert max(DELAYS) + NOTE <= HALF


def test_smaller_sets_are_all_phrases_of_fewer_factors(phrases):
    config = structure({"timbres": 2, "envelopes": 1, "pitches": 3, "delays": 2}, Tones.Config)
    small = Tones(config, location=None)
    assert len(small) == 2 * 1 * 3 * 2 * 3 * 2 == len(small.signals(range(len(small))).unique(dim=0))
    assert small.classes == tuple(TIMBRES)[:2]
    index = np.ravel_multi_index((1, 0, 2, 1, 0, 1), FACTORS)
    assert torch.equal(small.signals([np.ravel_multi_index((1, 0, 2, 1, 0, 1), (2, 1, 3, 2, 3, 2))]), phrases.signals([index]))
    assert small.digest() != phrases.digest()


def test_the_digest_is_the_same_on_every_machine(phrases):
    """Drawing is integer arithmetic; if this changes, results on tones cannot be compared with older ones."""
    assert phrases.digest() == "22f089469c477361108bedc7ea36b143ce091b98a60d8d46d0d2d1dec900efd1"


def test_sines_of_other_libraries_round_to_the_same_table():
    """A sine that is off by a thousand times the error of any library still rounds to the same 15 bits."""
    exact = 32767 * np.sin(2 * np.pi * np.arange(tones.PERIOD) / tones.PERIOD)
    for error in (-1e-9, 1e-9):
        assert (np.rint(exact + error) == np.rint(exact)).all()


def test_a_location_and_a_count_out_of_range_are_config_errors():
    with pytest.raises(ConfigError, match="tones takes no location"):
        Tones(Tones.Config(), location="somewhere")
    with pytest.raises(ConfigError, match="pitches"):
        structure({"pitches": 9}, Tones.Config)
