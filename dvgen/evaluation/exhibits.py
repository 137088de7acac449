"""Samples, completions and reconstructions: as pictures and sounds for a person, as numbers for another program."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from dvgen.errors import ConfigError
from dvgen.evaluation.completion import Completions
from dvgen.evaluation.pictures import check_picture, save_grid, square_columns, stacked
from dvgen.evaluation.pixels import check_arrays, write_pixels
from dvgen.evaluation.sounds import check_sound_folder, sampling_rate, save_sounds, save_wav, spectrogram_pictures
from dvgen.interfaces.data import Dataset

IMAGE_COLUMNS, SOUND_COLUMNS = 16, 8
"""Pairs side by side in the picture of reconstructions, and of nearest neighbours."""
NEIGHBOURS = 16
"""Samples that are shown with their nearest training signal: the first, so that nobody chooses."""


def place_for_samples(given: Path | None, name: Path, n: int, dataset: Dataset) -> Path:
    """Where `save_samples` puts n samples: `given`, or `name` with .png for images, as a folder for sound.

    Raises ConfigError for a place that cannot be: images are a .png file, sounds a folder or (one alone) a .wav file, and
    the numbers of either an .npz file.
    """
    if given is not None and _is_arrays(given):
        check_arrays(given)
        return given
    if sampling_rate(dataset) is None:
        place = given or name.with_name(f"{name.name}.png")
        check_picture(place)
        return place
    place = given or name
    if not (n == 1 and _is_wav(place)):
        check_sound_folder(place)
    elif place.is_dir():
        raise ConfigError(f"{place}: is a folder; expected a .wav file, such as {place / 'sample.wav'}")
    return place


def save_samples(place: Path, signals: Tensor, dataset: Dataset) -> None:
    """Images as a grid; sounds (n, channels, t) as 000.wav, 001.wav, ... and their spectrograms, or one as the file `place`.

    A place that ends in .npz gets the numbers of all of them, as `write_pixels` writes them.
    """
    rate = sampling_rate(dataset)
    if _is_arrays(place):
        write_pixels(place, signals, rate)
    elif rate is None:
        save_grid(place, signals)
    elif len(signals) == 1 and _is_wav(place):
        save_wav(place, signals[0], rate)
    else:
        save_sounds(place, dict(zip(_numbers(len(signals)), signals, strict=True)), rate, spectrogram_pictures(signals))


def save_completions(place: Path, completions: Completions, dataset: Dataset) -> None:
    """The reconstruction above what is kept of it above the completion; sounds are 000-reconstructed.wav, 000-kept.wav, ...

    A place that holds numbers, or one sound, gets the completions alone, as `save_samples` writes them.
    """
    rate = sampling_rate(dataset)
    if _is_arrays(place) or (rate is not None and len(completions.completed) == 1 and _is_wav(place)):
        save_samples(place, completions.completed, dataset)
        return
    shown = completions.completed if rate is None else spectrogram_pictures(completions.completed)
    n, _, height, width = shown.shape
    _save_stacked(place, completions._asdict(), rate, square_columns(n, len(completions) * height, width))


def save_reconstructions(name: Path, originals: Tensor, reconstructed: Tensor, dataset: Dataset) -> None:
    """Each original above its reconstruction: `name` with .png for images, as a folder of sounds and spectrograms for sound."""
    rate, kinds = sampling_rate(dataset), {"original": originals, "reconstructed": reconstructed}
    if rate is None:
        _save_stacked(name.with_name(f"{name.name}.png"), kinds, rate, IMAGE_COLUMNS)
    else:
        _save_stacked(name, kinds, rate, SOUND_COLUMNS)


def save_neighbours(name: Path, samples: Tensor, nearest: Tensor, dataset: Dataset) -> None:
    """The first samples, each above its nearest training signal, in the same order: `name` with .png.

    Sounds are shown by their spectrograms.
    """
    both = samples[:NEIGHBOURS], nearest[:NEIGHBOURS]
    columns = IMAGE_COLUMNS
    if sampling_rate(dataset) is not None:
        both, columns = (spectrogram_pictures(both[0]), spectrogram_pictures(both[1])), SOUND_COLUMNS
    save_grid(name.with_name(f"{name.name}.png"), stacked(both, columns), columns)


def _save_stacked(place: Path, kinds: Mapping[str, Tensor], rate: int | None, columns: int) -> None:
    """Signals (n, *shape) of each kind below each other: as the picture `place`, or as a folder of sounds NUMBER-KIND.wav."""
    if rate is None:
        save_grid(place, stacked(list(kinds.values()), columns), columns, together=len(kinds))
        return
    numbers = _numbers(len(next(iter(kinds.values()))))
    sounds = {f"{i}-{kind}": sound for kind, signals in kinds.items() for i, sound in zip(numbers, signals, strict=True)}
    pictures = stacked([spectrogram_pictures(signals) for signals in kinds.values()], columns)
    save_sounds(place, sounds, rate, pictures, columns)


def _is_arrays(place: Path) -> bool:
    return place.suffix.lower() == ".npz"


def _is_wav(place: Path) -> bool:
    return place.suffix.lower() == ".wav"


def _numbers(n: int) -> list[str]:
    """000, 001, ...; all of one length, so that they sort."""
    return [f"{i:0{max(3, len(str(n - 1)))}d}" for i in range(n)]
