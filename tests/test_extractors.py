"""Features are opened before anything is trained, and what they learn is kept, checked and never mixed up."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, final

import pytest
import torch
from attrs import frozen
from torch import Tensor

from dvgen.errors import ConfigError, DataError, ShapeError
from dvgen.evaluation.extractors import Opened, learn_features, open_features
from dvgen.interfaces.data import Dataset
from dvgen.interfaces.features import Features
from dvgen.registry import Component, Registry, Supplied


class Toy(Features):
    """Features of everything."""

    @frozen(kw_only=True)
    class Config:
        """Nothing to set."""

    dim, label, weights_hash = 2, "toy", "0"

    def __init__(self, config: Any, *, channels: int) -> None:
        super().__init__()

    def forward(self, signals: Tensor) -> Tensor:
        return signals.flatten(1)[:, :2]


@final
class Images(Toy):
    """Takes images only."""

    def forward(self, signals: Tensor) -> Tensor:
        if signals.ndim != 4:
            raise ShapeError("features 'images' expected images")
        return super().forward(signals)


@final
class Grey(Toy):
    """Takes one channel only, and tells at once."""

    def __init__(self, config: Any, *, channels: int) -> None:
        super().__init__(config, channels=channels)
        if channels != 1:
            raise ConfigError("features 'grey' take 1 channel")


@final
class Asked(Toy):
    """Only where it is named."""

    opt_in = True


@final
class Missing(Toy):
    """FID's, whose weights are never there."""

    official = True

    def __init__(self, config: Any, *, channels: int) -> None:
        raise DataError("FID needs weights, which are not here.\n  looked in: /")


class Learned(Toy):
    """The mean of the training split, and how often any was learned in this process."""

    learned = True
    label, weights_hash = "learned:v1", ""
    fits: ClassVar[list[int]] = []

    def __init__(self, config: Any, *, channels: int) -> None:
        super().__init__(config, channels=channels)
        self.register_buffer("mean", torch.zeros(()))
        self.register_load_state_dict_post_hook(lambda module, _: module.name())

    def name(self) -> None:
        self.weights_hash = f"{float(self.get_buffer('mean')):.6f}"
        self.label = f"learned:v1@{self.weights_hash}"

    def fit(self, dataset: Dataset, indices: Tensor, pause: Callable[[], None]) -> None:
        pause()
        if len(dataset.classes) < 2:
            raise ConfigError("features 'learned' need two classes")
        self.fits.append(len(indices))
        self.get_buffer("mean").copy_(dataset.signals(indices.tolist()).mean())
        self.name()

    def forward(self, signals: Tensor) -> Tensor:
        if not self.weights_hash:
            raise ConfigError("features 'learned' have learned nothing yet")
        return super().forward(signals) - self.get_buffer("mean")


@final
class Other(Learned):
    """Another recipe."""

    label = "learned:v2"


class Ramps(Dataset):
    """Images of one grey each."""

    def __init__(self, classes: int = 2, scale: float = 1.0) -> None:
        self.shape, self.parts, self.classes = (1, 4, 4), {"train": (0, 10)}, tuple("abc"[:classes])
        self.labels = torch.zeros(10, dtype=torch.int64)
        self.scale = scale

    def signals(self, indices: Any) -> Tensor:
        return (torch.tensor(indices) * 0.1 * self.scale).reshape(-1, 1, 1, 1).expand(-1, *self.shape)

    def digest(self) -> str:
        return str(self.scale)


def toys(**classes: str) -> Registry:
    chosen = classes or {"asked": "Asked", "grey": "Grey", "images": "Images", "missing": "Missing", "learned": "Learned"}
    module = __name__
    return Registry(
        [Supplied(Component("features", name, f"{module}:{cls}", "a toy"), "toys", "toys 1") for name, cls in chosen.items()]
    )


def nothing() -> None:
    """Never stop."""


def learn(opened: Opened, cache: Path, data: Dataset | None = None, n: int = 10, **options: Any) -> dict[str, Features]:
    spaces, _ = learn_features(opened, data or Ramps(), torch.arange(n), nothing, cache, **options)
    return spaces


@pytest.fixture(autouse=True)
def forget() -> None:
    Learned.fits.clear()


def test_without_names_all_that_take_the_signals_are_opened_and_missing_weights_are_noted() -> None:
    opened = open_features(toys(), (), (1, 4, 4), nothing)
    assert list(opened.spaces) == ["grey", "images", "learned"]
    assert opened.notes == ("FID: n/a: FID needs weights, which are not here. (dvgen weights list)",)
    assert list(open_features(toys(), (), (3, 4, 4), nothing).spaces) == ["images", "learned"]
    sound = open_features(toys(), (), (1, 40), nothing)
    assert (list(sound.spaces), sound.notes) == (["grey", "learned"], ())


def test_names_are_a_demand() -> None:
    """In their order, opt-in ones too; what cannot be had is an error that says what can."""
    assert list(open_features(toys(), ("images", "asked", "images"), (1, 4, 4), nothing).spaces) == ["images", "asked"]
    with pytest.raises(DataError, match="looked in"):
        open_features(toys(), ("grey", "missing"), (1, 4, 4), nothing)
    with pytest.raises(
        ConfigError, match=r"take 1 channel; features that take signals of shape \(3, 4, 4\): asked, images, learned$"
    ):
        open_features(toys(), ("grey",), (3, 4, 4), nothing)
    with pytest.raises(ConfigError, match=r"expected images; features that take .*: asked, grey, learned$"):
        open_features(toys(), ("images",), (1, 40), nothing)
    with pytest.raises(ConfigError, match="did you mean 'grey'"):
        open_features(toys(), ("gray",), (1, 4, 4), nothing)


def test_the_features_at_hand_open_for_images_and_for_sound(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DVGEN_WEIGHTS", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    images, sound = (open_features(registry, (), shape, nothing) for shape in ((3, 32, 32), (1, 2048)))
    assert list(images.spaces) == ["clf", "rand"]
    assert len(images.notes) == 1
    assert (list(sound.spaces), sound.notes) == (["rand-sound"], ())
    with pytest.raises(ConfigError, match=r"features that take signals of shape .*: rand-sound$"):
        open_features(registry, ("rand",), (1, 2048), nothing)


def test_opening_can_be_stopped() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_features(toys(), (), (1, 4, 4), stop)


def test_what_is_learned_is_learned_once(tmp_path: Path) -> None:
    for _ in range(2):
        opened = open_features(toys(), ("learned", "images"), (1, 4, 4), nothing)
        spaces = learn(opened, tmp_path)
        assert list(spaces) == ["learned", "images"]
        assert spaces["learned"].label == "learned:v1@0.450000"
        assert float(spaces["learned"](torch.zeros(1, 1, 4, 4))[0, 0]) == pytest.approx(-0.45)
    assert learn(opened, tmp_path)["learned"].label == "learned:v1@0.450000"  # the same objects, once more
    assert Learned.fits == [10]
    assert [path.name.split("-")[0] for path in (tmp_path / "extractors").iterdir()] == ["learned"]


def test_other_data_another_split_or_another_recipe_are_learned_for_themselves(tmp_path: Path) -> None:
    both = toys(learned="Learned", other="Other")
    opened = open_features(both, (), (1, 4, 4), nothing)
    learn(opened, tmp_path)
    assert Learned.fits == [10, 10]
    assert learn(opened, tmp_path, n=5)["learned"].weights_hash == "0.200000"
    assert learn(opened, tmp_path, Ramps(scale=2.0))["learned"].weights_hash == "0.900000"
    assert learn(opened, tmp_path, Ramps(classes=3))["other"].weights_hash == "0.450000"
    assert Learned.fits == [10, 10, 5, 5, 10, 10, 10, 10]
    assert learn(opened, tmp_path)["learned"].weights_hash == "0.450000"
    assert len(Learned.fits) == 8


def test_another_label_of_the_class_is_another_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_features(toys(), ("learned",), (1, 4, 4), nothing)
    learn(opened, tmp_path)
    monkeypatch.setattr(Learned, "label", "learned:v3")
    learn(opened, tmp_path)
    assert Learned.fits == [10, 10]


def test_a_damaged_file_is_learned_again_with_a_warning(tmp_path: Path) -> None:
    """Cut short, of another layout, or with a changed weight, which the file's own format does not notice."""
    opened = open_features(toys(), ("learned",), (1, 4, 4), nothing)
    learn(opened, tmp_path)
    (path,) = (tmp_path / "extractors").iterdir()
    whole = path.read_bytes()
    for damaged in (whole[:-1], b"", whole[:-1] + b"\x40", whole.replace(b'"mean"', b'"main"')):
        assert damaged != whole
        path.write_bytes(damaged)
        with pytest.warns(UserWarning, match="damaged .* learned again"):
            assert learn(opened, tmp_path)["learned"].weights_hash == "0.450000"
        assert path.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path: Path) -> None:
    (tmp_path / "extractors").touch()
    opened = open_features(toys(), ("learned",), (1, 4, 4), nothing)
    with pytest.warns(UserWarning, match="cannot be written"):
        assert learn(opened, tmp_path)["learned"].weights_hash == "0.450000"


def test_features_that_cannot_learn_are_left_out_with_a_note_unless_they_are_required(tmp_path: Path) -> None:
    opened = open_features(toys(), (), (1, 4, 4), nothing)
    spaces, notes = learn_features(opened, Ramps(classes=1), torch.arange(10), nothing, tmp_path)
    assert list(spaces) == ["grey", "images"]
    assert notes == ("learned: n/a: features 'learned' need two classes",)
    with pytest.raises(ConfigError, match="need two classes"):
        learn(opened, tmp_path, Ramps(classes=1), required=("learned",))
