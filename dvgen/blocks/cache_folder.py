"""Where dvgen keeps what can be made again at any time. Imports no torch."""

import os
from pathlib import Path

CACHE = "DVGEN_CACHE"
"""The environment variable that names the folder."""


def cache_folder() -> Path:
    """$DVGEN_CACHE, or ~/.cache/dvgen where it is not set or empty; it need not exist."""
    return Path(os.environ.get(CACHE) or "~/.cache/dvgen").expanduser()
