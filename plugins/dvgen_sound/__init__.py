"""Sound: tones drawn by dvgen, folders of wav files, and features to compare them by."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """The data sets `tones` and `sound-folder`, the features `rand-sound`, the recipe `tones-tiny`."""
    return [
        Component("dataset", "tones", "dvgen_sound.tones:Tones", "phrases of two notes that agree, drawn by dvgen; finite"),
        Component(
            "dataset",
            "sound-folder",
            "dvgen_sound.folder:SoundFolder",
            "sound-folder:DIR, any tree of wav files; cut into clips",
        ),
        Component(
            "features", "rand-sound", "dvgen_sound.rand:RandomSoundFeatures", "a fixed random network on spectrograms; no file"
        ),
        Component("recipe", "tones-tiny", "dvgen_sound:recipes/tones-tiny.toml", "tones in minutes on one thread"),
    ]
