"""Published files of weights: looked for on this machine, never fetched, and taken only with the right SHA-256."""

import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dvgen.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


class Weights(NamedTuple):
    """The tensors of a file by name, on the CPU, and the file's SHA-256 in hex."""

    table: "dict[str, Tensor]"
    sha256: str


def find_weight_file(names: Sequence[str], *, need: str, url: str, instead: str) -> Path:
    """The first file of these names in $DVGEN_WEIGHTS and then in torch's download folder.

    need: who needs what, such as "FID needs the 2015 Inception weights". url: where the file is published. instead: what
    can be used without it. Raises DataError, which tells all of this, when there is no such file.
    """
    named = os.environ.get("DVGEN_WEIGHTS")
    folders = ([Path(named).expanduser()] if named else []) + [_torch_folder()]
    places = [folder / name for folder in folders for name in names]
    for place in places:
        if place.is_file():
            return place
    looked = "\n".join(f"              {place}" for place in places)
    raise DataError(
        f"{need}, which are not on this machine.\n"
        f"  looked in:  $DVGEN_WEIGHTS{'=' + named if named else ' (unset)'}\n{looked}\n"
        f"  get it on a connected machine:\n              {url}\n"
        "  then:       put the file into one of these folders, or set DVGEN_WEIGHTS to the folder it is in\n"
        f"  or:         {instead}"
    )


def load_weight_file(path: Path, expected_hash: str, *, otherwise: str) -> Weights:
    """The weights of a file whose SHA-256 begins with `expected_hash`; nothing in it is run.

    otherwise: what a file of another content is, and what to do, for the message. Raises DataError for such a file, and
    for one that is not a plain table of tensors.
    """
    content = path.read_bytes()  # read once: what is hashed is what is used
    found = hashlib.sha256(content).hexdigest()
    if not found.startswith(expected_hash):
        raise DataError(
            f"{path}: SHA-256 begins with {found[: len(expected_hash)]}, expected {expected_hash}; these are not {otherwise}"
        )
    return Weights(_tensors(content, path), found)


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
