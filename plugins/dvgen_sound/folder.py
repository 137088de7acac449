"""Any folder of wav files."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple, final

import numpy as np
import torch
from attrs import field, frozen
from attrs.validators import ge, le
from numpy.typing import NDArray
from torch import Tensor

from dvgen.blocks.file_tree import Entry, existing_folder, find_files, part_ranges
from dvgen.errors import DataError
from dvgen.interfaces.data import Dataset
from dvgen_sound.wav import TRANSFORM, decode

EXTENSIONS = (".wav", ".wave")
MEMORY = 1 << 30  # bytes of samples that are kept (9 hours at 16 kHz); a larger set is read again on demand
EXPECTED = f"wav files ({', '.join(EXTENSIONS)}), in it or in its sub-folders"


@final
class SoundFolder(Dataset):
    """Clips of the wav files of a tree, (1, length); the class is the sub-folder, and top folders train/val/test are parts.

    Every file is cut into consecutive clips; what remains at its end is left out. Every file is read once on opening, so that
    those that cannot be read, or are shorter than a clip, are known: they stand in `skipped`. A file lies in one part with
    all its clips; where dvgen divides the set itself, clips of one file may come to lie in two splits.
    """

    @frozen(kw_only=True)
    class Config:
        """length: samples of a clip. rate: samples a second; files of another rate are resampled."""

        length: int = field(default=16384, validator=[ge(64), le(1 << 24)])
        rate: int = field(default=16000, validator=[ge(1000), le(192_000)])

    def __init__(self, config: Any, *, location: str | None) -> None:
        self._root = existing_folder("sound-folder", location, EXPECTED)
        self._length, self._rate = config.length, config.rate
        self.rate = self._rate
        entries = find_files(self._root, EXTENSIONS)
        if not entries:
            raise DataError(f"sound-folder: no wav file in {self._root}; expected {EXPECTED}")
        self._clips, seen = self._read_all(entries)
        self.skipped = tuple(sorted(entry.name for entry, one in zip(entries, seen, strict=True) if one.fault))
        if len(self.skipped) == len(entries):
            raise DataError(
                f"sound-folder: none of the {len(entries)} wav files in {self._root} can be used; "
                f"{entries[0].name}: {seen[0].fault}; expected {EXPECTED}"
            )
        self._entries = [entry for entry, one in zip(entries, seen, strict=True) if not one.fault]
        self._seen = [one for one in seen if not one.fault]
        owners = [entry for entry, one in zip(self._entries, self._seen, strict=True) for _ in range(one.clips)]
        self.shape = (1, self._length)
        self.classes = tuple(sorted({entry.kind for entry in self._entries}))
        position = {kind: i for i, kind in enumerate(self.classes)}
        self.labels = torch.tensor([position[entry.kind] for entry in owners])
        self.parts = part_ranges([entry.part for entry in owners])
        self._ends = np.cumsum([one.clips for one in self._seen])  # of every file's clips

    def signals(self, indices: Sequence[int]) -> Tensor:
        wanted = np.asarray(indices, dtype=np.int64)
        clips = self._clips[wanted] if self._clips is not None else self._read_again(wanted)
        return torch.from_numpy(clips).unsqueeze(1).float() / 32768

    def digest(self) -> str:
        hashed = hashlib.sha256(f"sound-folder/{self._length}/{self.rate}/{TRANSFORM}".encode())
        for entry, seen in zip(self._entries, self._seen, strict=True):
            hashed.update(f"\n{seen.sha256} {entry.name}".encode("utf-8", "surrogateescape"))
        return hashed.hexdigest()

    def _read_all(self, entries: Sequence[Entry]) -> tuple[NDArray[np.int16] | None, list["_Seen"]]:
        """Read every file once: the clips (n, length) of the usable ones, or None when they are too many to keep."""
        seen: list[_Seen] = []
        kept: list[NDArray[np.int16]] | None = []
        size = 0
        for entry in entries:
            clips, one = self._read(entry.name)
            seen.append(one)
            size += clips.nbytes
            if size > MEMORY:
                kept = None
            if kept is not None:
                kept.append(clips)
        return (None if kept is None else np.concatenate(kept)), seen

    def _read(self, name: str) -> tuple[NDArray[np.int16], "_Seen"]:
        """The clips (k, length) of a file, and what became of it; no clips when it cannot be used."""
        path = self._root / name
        nothing = np.empty((0, self._length), dtype=np.int16)
        try:
            if not path.is_file():  # a pipe would be waited for, forever
                raise OSError("not a file")
            data = path.read_bytes()
            samples = decode(data, self._rate)
        except Exception as error:  # a damaged file raises nearly anything
            return nothing, _Seen("", f"{type(error).__name__}: {error}", 0)
        count = len(samples) // self._length
        if not count:
            fault = f"{len(samples)} samples at {self.rate} a second, shorter than a clip of {self._length}"
            return nothing, _Seen("", fault, 0)
        clips = samples[: count * self._length].reshape(count, self._length)
        return clips, _Seen(hashlib.sha256(data).hexdigest(), "", count)

    def _read_again(self, wanted: NDArray[np.int64]) -> NDArray[np.int16]:
        """Clips (b, length) from their files, each file read once."""
        found = np.empty((len(wanted), self._length), dtype=np.int16)
        owners = np.searchsorted(self._ends, wanted, side="right")
        for owner in np.unique(owners):
            name, before = self._entries[owner].name, self._seen[owner]
            clips, now = self._read(name)
            if now != before:
                fault = now.fault or "its contents have changed"
                raise DataError(f"{self._root / name}: could be read when the set was opened, not now: {fault}")
            rows = owners == owner
            found[rows] = clips[wanted[rows] - (self._ends[owner] - before.clips)]
        return found


class _Seen(NamedTuple):
    """What became of a file: the hash of its bytes, or why it cannot be used, and how many clips it gave."""

    sha256: str
    fault: str
    clips: int
