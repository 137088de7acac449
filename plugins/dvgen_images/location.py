"""The folder that a data set is read from."""

from pathlib import Path

from dvgen.errors import ConfigError, DataError


def existing_folder(name: str, location: str | None, expected: str) -> Path:
    """The folder of `--data NAME:DIR`; `expected` says what it should hold.

    Raises ConfigError when no folder was named and DataError when it is not there.
    """
    if location is None:
        raise ConfigError(f"{name} needs a folder: --data {name}:DIR, where DIR holds {expected}")
    root = Path(location).expanduser()
    if not root.is_dir():
        raise DataError(f"{name}: no folder {root}; expected one that holds {expected}")
    return root
