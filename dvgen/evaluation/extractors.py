"""The spaces of features that a run measures in: which there are for its signals, and those that are learned from its data."""

import os
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from attrs import frozen
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dvgen.assembly import build
from dvgen.config import unstructure
from dvgen.data.loading import data_hash
from dvgen.errors import ConfigError, DataError, DvgenError, IntegrityError, ShapeError
from dvgen.experiment import Choice, digest
from dvgen.interfaces.data import Dataset
from dvgen.interfaces.features import Features
from dvgen.registry import Registry

HASH = "weights_hash"
Pause = Callable[[], None]


@frozen
class Opened:
    """Features by the name of their component, and a line for each that might have been there and is not."""

    spaces: Mapping[str, Features]
    notes: tuple[str, ...]


def open_features(registry: Registry, names: tuple[str, ...], shape: tuple[int, ...], pause: Pause) -> Opened:
    """The features of these names for signals of `shape` (channels, *size); learned ones have not learned yet.

    Without names: all that take such signals and are not `opt_in`, with a note for those whose weights are missing.
    Names are a demand: raises ConfigError for an unknown one and for one that does not take such signals, and DataError
    where its weights are missing or wrong.
    """
    spaces: dict[str, Features] = {}
    notes: list[str] = []
    for name in dict.fromkeys(names) or registry.names("features"):
        pause()
        cls = registry.load("features", name)
        # FID is a distance of images: that its weights are missing says nothing about sound
        if not names and (cls.opt_in or (cls.official and len(shape) != 3)):
            continue
        try:
            spaces[name] = _open(registry, name, shape)
        except (ConfigError, ShapeError) as error:
            if names:
                raise ConfigError(f"{error}; {_others(registry, name, shape)}") from None
        except DataError as error:
            if names:
                raise
            notes.append(f"{'FID' if cls.official else name}: n/a: {str(error).splitlines()[0]} (dvgen weights list)")
    return Opened(spaces, tuple(notes))


def learn_features(
    opened: Opened, dataset: Dataset, indices: Tensor, pause: Pause, cache: Path, *, required: Collection[str] = ()
) -> tuple[dict[str, Features], tuple[str, ...]]:
    """The spaces of `opened` with every learned one ready for use, and a note for each that cannot learn and was left out.

    What is learned from the signals at `indices` (n,), the training split, is kept under `cache`, by data, indices, config
    and recipe, and read from there the next time; a damaged file is made anew with a warning.
    Raises ConfigError for features of `required` that cannot learn from these data.
    """
    ready: dict[str, Features] = {}
    notes: list[str] = []
    for name, features in opened.spaces.items():
        try:
            if features.learned:
                _learn(features, dataset, indices, pause, _place(cache, name, features, dataset, indices))
        except (ConfigError, ShapeError) as error:
            if name in required:
                raise
            notes.append(f"{name}: n/a: {error}")
        else:
            ready[name] = features
    return ready, tuple(notes)


def _open(registry: Registry, name: str, shape: tuple[int, ...]) -> Features:
    """Features that take signals of this shape, tried on silence; raises ConfigError or ShapeError for others."""
    features: Features = build(registry, "features", Choice(use=name), channels=shape[0])
    try:
        with torch.no_grad():
            features(torch.zeros(1, *shape))
    except ConfigError:
        if not features.learned:  # those say that they have learned nothing yet
            raise
    return features


def _others(registry: Registry, refused: str, shape: tuple[int, ...]) -> str:
    """Which other features take such signals on this machine."""
    able = []
    for name in registry.names("features"):
        try:
            if name != refused:
                _open(registry, name, shape)
                able.append(name)
        except DvgenError:
            continue
    return f"features that take signals of shape {shape}: {', '.join(able) or 'none'}"


def _place(cache: Path, name: str, features: Features, dataset: Dataset, indices: Tensor) -> Path:
    """The file of what features learn from these data; another recipe, config or training split has another file."""
    cls = type(features)
    known = {
        # of the class, not of the instance, whose label is that of the weights that it has
        "recipe": f"{cls.__module__}:{cls.__qualname__} {cls.label}",
        "config": unstructure(cls.Config()),
        "data": data_hash(dataset),
        "indices": indices.tolist(),
    }
    return cache / "extractors" / f"{name}-{digest(known)[:16]}.safetensors"


def _learn(features: Features, dataset: Dataset, indices: Tensor, pause: Pause, place: Path) -> None:
    """Take the weights from their file, or learn them and write it."""
    if place.is_file():
        try:
            _read(features, place)
            return
        except (SafetensorError, OSError, RuntimeError, IntegrityError) as error:
            reason = " ".join(str(error).split())
            warnings.warn(f"{place}: damaged ({reason}); it is learned again", stacklevel=2)
    features.fit(dataset, indices, pause)
    try:
        _write(features, place)
    except OSError as error:
        warnings.warn(f"{place}: cannot be written ({error.strerror}), and will be learned again next time", stacklevel=2)


def _read(features: Features, place: Path) -> None:
    with safe_open(place, framework="pt") as file:
        table = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a file, and no mapping
        expected = (file.metadata() or {}).get(HASH)
    features.load_state_dict(table)
    if features.weights_hash != expected:
        raise IntegrityError("its weights are not those that were written")


def _write(features: Features, place: Path) -> None:
    """Put the file into its place in one act: another process reads all of it, or learns for itself."""
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = place.with_name(f".{place.name}-{os.getpid()}")
    table = {name: tensor.detach().cpu().contiguous() for name, tensor in features.state_dict().items()}
    try:
        aside.write_bytes(save(table, {HASH: features.weights_hash}))
        aside.replace(place)
    finally:
        aside.unlink(missing_ok=True)
