"""Published files of weights: looked for on this machine, never fetched, and taken only with the right SHA-256."""

import hashlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dvgen.errors import DataError
from dvgen.interfaces.weights import WeightFile

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "DVGEN_WEIGHTS"
"""The environment variable that names the folder in which weights are looked for first."""


class Weights(NamedTuple):
    """The tensors of a file by name, on the CPU, the file's SHA-256 in hex, and where it lies."""

    table: "dict[str, Tensor]"
    sha256: str
    path: Path


def weight_folders() -> tuple[Path, ...]:
    """Where weight files are looked for: $DVGEN_WEIGHTS where it is set, then torch's download folder."""
    named = os.environ.get(FOLDER)
    return (*([Path(named).expanduser()] if named else []), _torch_folder())


def weight_places(file: WeightFile) -> tuple[Path, ...]:
    """The paths at which a file is looked for, in this order."""
    return tuple(folder / name for folder in weight_folders() for name in file.names)


def present_weight_file(file: WeightFile) -> Path | None:
    """The first of its places at which there is a file, whatever its content."""
    return next((place for place in weight_places(file) if place.is_file()), None)


def find_weight_file(file: WeightFile) -> Path:
    """The path of a file; raises DataError, which tells where it was looked for and what to do, when it is nowhere."""
    found = present_weight_file(file)
    if found is not None:
        return found
    named = os.environ.get(FOLDER)
    looked = "\n".join(f"              {place}" for place in weight_places(file))
    raise DataError(
        f"{file.need}, which are not on this machine.\n"
        f"  looked in:  ${FOLDER}{'=' + named if named else ' (unset)'}\n{looked}\n"
        f"  get it on a connected machine:\n              {file.url}\n"
        "  then:       dvgen weights add FILE   (checks the hash, copies it to the first place above)\n"
        f"  or:         {file.instead}"
    )


def read_weight_file(file: WeightFile) -> Weights:
    """Find a file and read it as `load_weight_file` does; raises DataError as both."""
    return load_weight_file(find_weight_file(file), file)


def load_weight_file(path: Path, file: WeightFile) -> Weights:
    """The weights at `path`, whose SHA-256 must begin as that of `file`; nothing in it is run.

    Raises DataError for another content, and for a file that is not a plain table of tensors.
    """
    try:
        content = path.read_bytes()  # read once: what is hashed is what is used
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    found = hashlib.sha256(content).hexdigest()
    check_weight_hash(path, found, file)
    return Weights(_tensors(content, path), found, path)


def check_weight_hash(path: Path | str, sha256: str, file: WeightFile) -> None:
    """Raise DataError, which tells what the content is instead where that is known, for the SHA-256 of another content."""
    if sha256.startswith(file.sha256):
        return
    what = next((what for start, what in file.mistaken.items() if sha256.startswith(start)), None)
    told = f"they are {what}" if what else "it is another file or damaged"
    raise DataError(
        f"{path}: not the weights that {file.names[0]} holds: its SHA-256 begins with {sha256[: len(file.sha256)]}, "
        f"expected {file.sha256}; {told}; get {file.url}"
    )


def _tensors(content: bytes, path: Path) -> "dict[str, Tensor]":
    import torch  # here, so that looking for a file costs no second

    try:
        table = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler meets damage in many ways
        raise DataError(f"{path}: cannot be read as weights: {type(error).__name__}") from None
    if not (isinstance(table, dict) and all(isinstance(value, torch.Tensor) for value in table.values())):
        raise DataError(f"{path}: expected a table of weights, got {type(table).__name__}")
    return table


def _torch_folder() -> Path:
    """Where torch.hub keeps what it downloads, by the rule of torch.hub.get_dir."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser() / "hub" / "checkpoints"
