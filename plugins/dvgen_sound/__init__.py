"""Sound: tones drawn by dvgen, folders of wav files, and features to compare them by."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """Nothing yet."""
    return []
