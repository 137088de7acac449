"""Sound as files, as pictures, and compared: rounded to 16 bits, as wav files hold it."""

import re
import wave
from collections.abc import Mapping
from pathlib import Path

import torch
from einops import rearrange, reduce
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from dvgen.blocks.spectrogram import FLOOR, spectrogram
from dvgen.errors import ConfigError, NonFiniteError, PluginError, ShapeError
from dvgen.evaluation.measurement import Key
from dvgen.evaluation.pictures import replacing, save_grid
from dvgen.interfaces.data import Dataset
from dvgen.sealed import MANIFEST, seal

CAP = 100.0
"""The signal-to-noise ratio in dB of a sound equal to its reconstruction, where it would be infinite and spoil the mean."""
PICTURE = "spectrograms.png"
OWN = re.compile(rf"\d+(-original|-reconstructed|-kept|-completed)?\.wav|{re.escape(PICTURE)}|{re.escape(MANIFEST)}")
"""What a folder of sounds holds, and nothing else: a folder with other files is never replaced."""
FILES = (".png", ".jpg", ".jpeg", ".wav", ".mp3", ".flac", ".ogg")
"""Names that mean one file, where a folder is wanted."""
COLOURS = ((0, 0, 4), (74, 16, 110), (168, 46, 118), (238, 105, 76), (252, 180, 92), (252, 253, 191))
"""From silent to loud, in equal steps of decibels; each is lighter than the one before it, so that it reads in grey too."""
WIDEST = 128
"""Columns of a spectrogram."""


def sampling_rate(dataset: Dataset) -> int | None:
    """Samples a second of a set of sound, None for images. Raises PluginError for sound that does not say."""
    if len(dataset.shape) != 2:
        return None
    if dataset.rate is None:
        name = type(dataset).__name__
        raise PluginError(f"data set {name}: signals of shape {dataset.shape} are sound; its class must say its `rate`")
    return dataset.rate


def to_int16(signals: Tensor) -> Tensor:
    """Signals in [-1, 1] to -32768..32767, times 32768, rounded to the nearest and clamped; raises NonFiniteError."""
    if not bool(signals.isfinite().all()):
        raise NonFiniteError(f"signals of shape {tuple(signals.shape)} hold a value that is not finite")
    return (signals * 32768).round().clamp(-32768, 32767).to(torch.int16)


def from_int16(samples: Tensor) -> Tensor:
    """-32768..32767 to float32 signals in [-1, 1); `to_int16` gives back the same numbers."""
    return samples.float() / 32768


def snr(reconstructed: Tensor, signals: Tensor) -> Tensor:
    """Signal-to-noise ratio of each sound in dB, (b,) float64, at most CAP; NaN for silence, which has no ratio.

    10 log10(energy of the signal / energy of the error), after both (b, channels, t) are rounded to 16 bits.
    """
    if reconstructed.shape != signals.shape:
        raise ShapeError(f"expected two tensors of one shape, got {tuple(reconstructed.shape)} and {tuple(signals.shape)}")
    rounded = to_int16(signals).double()
    error = to_int16(reconstructed).double() - rounded
    energy, noise = (reduce(samples**2, "b ... -> b", "sum") for samples in (rounded, error))
    return torch.where(energy > 0, 10 * torch.log10(energy / noise), torch.nan).clamp(max=CAP)


def snr_key(data: str, split: str) -> Key:
    """The key of a mean signal-to-noise ratio; data: identity (a hash) of data set and transform."""
    protocol = {"data": data, "split": split, "rounding": "16 bits, nearest", "mean": "of sounds' SNR, without silent ones"}
    return Key("SNR", "dB", protocol | {"cap": f"{CAP:g} dB"}, higher_is_better=True)


def write_wav(path: Path, signals: Tensor, rate: int) -> None:
    """Write sound (channels, t) as a wav file of 16 bits."""
    samples = rearrange(to_int16(signals.cpu()), "channel time -> time channel").numpy().astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())


def save_wav(path: Path, signals: Tensor, rate: int) -> None:
    """`write_wav` in one act, making the folder when it is not there."""
    with replacing(path) as aside:
        write_wav(aside, signals, rate)


def save_sounds(folder: Path, sounds: Mapping[str, Tensor], rate: int, picture: Tensor, columns: int | None = None) -> None:
    """Sounds (channels, t) as NAME.wav and pictures (n, 3, h, w) as spectrograms.png, in a folder written in one act.

    An older folder of sounds is replaced; raises as `check_sound_folder` does.
    """
    check_sound_folder(folder)

    def fill(aside: Path) -> None:
        for name, signals in sounds.items():
            write_wav(aside / f"{name}.wav", signals, rate)
        save_grid(aside / PICTURE, picture, columns)

    seal(folder, fill, {"rate": rate})


def check_sound_folder(folder: Path) -> None:
    """Raise ConfigError when `save_sounds` may not write `folder`: it is named like a file, is one, or holds other files."""
    if folder.suffix.lower() in FILES or folder.is_file():
        raise ConfigError(
            f"{folder}: sounds are written as a folder of wav files; expected a folder, such as {folder.with_suffix('')}"
        )
    others = [path.name for path in folder.iterdir() if not OWN.fullmatch(path.name)] if folder.is_dir() else []
    if others:
        raise ConfigError(f"{folder}: holds other files, such as {min(others)}, and would be replaced; expected a new folder")


def spectrogram_pictures(signals: Tensor) -> Tensor:
    """Pictures (n, 3, 128, at most 128) in [-1, 1] of sound (n, channels, t): time to the right, frequency up to rate / 2.

    Black is FLOOR, the lightest yellow 0 dB; channels are averaged in decibels. Of several moments in one column the loudest
    shows.
    """
    decibels = spectrogram(signals.cpu(), hop=min(64, max(1, signals.shape[-1] // WIDEST)))[:, :, :-1].mean(dim=1).flip(1)
    shown = adaptive_max_pool2d(decibels, (decibels.shape[1], min(WIDEST, decibels.shape[2])))
    palette = torch.tensor(COLOURS, dtype=torch.float64)
    place = (1 - shown / FLOOR).clamp(0, 1) * (len(palette) - 1)
    below = place.floor().long().clamp(max=len(palette) - 2)
    colours = torch.lerp(palette[below], palette[below + 1], (place - below).unsqueeze(-1))
    return rearrange(colours / 127.5 - 1, "n h w c -> n c h w").float()
