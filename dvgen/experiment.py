"""What an experiment says: one component a box, the data, and how long to train. Imports no torch."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import Factory, field, frozen
from attrs.validators import and_, deep_iterable, ge, gt, in_, le, lt, min_len, optional

from dvgen.config import canonical, override, read_toml, structure, unstructure
from dvgen.errors import ConfigError

SCHEMA = 1
AUTO = "auto"
PRECISIONS = (AUTO, "32-true", "bf16-mixed")
_LARGE = r"[0-9]+(\.[0-9]+)?(e\+?[0-9]+)?"
_AMOUNTS = {"steps": "[0-9]+", "codes": _LARGE, "flops": _LARGE, "seconds": r"[0-9]+(\.[0-9]+)?"}
"""How much of each unit a budget may be, as it is written."""
TRUTH = "truth"
"""What `--data` says before the name of a source of codes."""


@frozen(kw_only=True)
class Choice:
    """The component that fills a box: its name, and the fields of its own Config that differ from the defaults."""

    use: str
    fields: Mapping[str, object] = Factory(dict)


@frozen(kw_only=True)
class DataChoice(Choice):
    """A data set, and where it lies (what stands after the colon of `--data NAME:LOCATION`).

    With `truth`, a source of codes instead, whose probabilities are known (`--data truth:NAME`): it has no location, and an
    experiment on it has a prior, but no tokenizer.
    """

    location: str | None = None
    truth: bool = field(default=False)

    @truth.validator
    def _nowhere(self, attribute: object, value: bool) -> None:
        if value and self.location is not None:
            raise ValueError(f"a source of codes has no location, got {self.location!r}; leave it out")


@frozen(kw_only=True)
class LossChoice(Choice):
    """A loss and its weight in the sum."""

    weight: float = field(default=1.0, validator=ge(0))


@frozen(kw_only=True)
class PriorChoice(Choice):
    """A prior, and the level it models; without a level it is made anew for every level."""

    level: str | None = None


def _budget(instance: object, attribute: object, value: str) -> None:
    """attrs validator: a whole number of steps, codes or operations, or a number of seconds; more than nothing."""
    unit, _, amount = value.partition(":")
    written = unit in _AMOUNTS and re.fullmatch(_AMOUNTS[unit], amount)
    if not written or not 0 < float(amount) < float("inf") or (unit != "seconds" and not float(amount).is_integer()):
        raise ValueError(
            "expected steps:N, codes:N, flops:N or seconds:S, more than 0, with whole N, "
            f"of codes and flops also as in flops:2e15; got {value!r}"
        )


@frozen(kw_only=True)
class Training:
    """How one stage is trained: Adam with decoupled weight decay.

    `budget` is "steps:N", "codes:N" (images times codes an image), "flops:X" (dense operations, forward and backward), or
    "seconds:S" of training alone; it ends with the first step that reaches it. The learning rate rises over `warmup`
    steps, stays, and falls to zero over the last `decay` (a fraction) of the budget, so only the end of a run is a result
    at a budget, and no point before it. A step averages `micro_batches` parts of its batch.
    `ema` is the decay of a moving average of the weights, which evaluation then uses in their stead; 0 keeps none.
    """

    budget: str = field(default="steps:1000", validator=_budget)
    batch: int = field(default=64, validator=ge(1))
    micro_batches: int = field(default=1, validator=ge(1))
    lr: float = field(default=3e-4, validator=gt(0))
    warmup: int = field(default=0, validator=ge(0))
    decay: float = field(default=0.2, validator=[ge(0), le(1)])
    weight_decay: float = field(default=0.0, validator=ge(0))
    betas: tuple[float, float] = field(default=(0.9, 0.999), validator=deep_iterable(and_(ge(0), lt(1))))
    clip: float = field(default=1.0, validator=gt(0))
    ema: float = field(default=0.0, validator=[ge(0), lt(1)])
    log_every: int = field(default=20, validator=ge(1))
    checkpoint_every: int = field(default=500, validator=ge(1))


@frozen(kw_only=True)
class Train:
    """Both stages. `precision` of matrix products in training: "32-true", or "bf16-mixed" (autocast); evaluation is in 32.

    "auto" becomes one of the two before training begins, as the machine is: see `resolve_precision`.
    """

    precision: str = field(default=AUTO, validator=in_(PRECISIONS))
    tokenizer: Training = Training(budget="steps:1000", lr=1e-3)
    prior: Training = Training(budget="steps:800", batch=32, lr=2e-3, warmup=50, betas=(0.9, 0.95))


@frozen(kw_only=True)
class Adversarial:
    """The adversarial game of stage one (VQGAN, Esser et al., 2021, section 3.1), counted in steps.

    The discriminator trains from step `begin`; its verdict reaches the generator from step `start`, with a weight that
    rises to `weight` over `ramp` steps. `adaptive` multiplies it by the ratio of gradient norms at the decoder's last layer
    (equation 7). `lr` and `betas` are the discriminator's; without `lr` it has the tokenizer's.
    """

    weight: float = field(default=0.8, validator=ge(0))
    adaptive: bool = True
    begin: int = field(default=0, validator=ge(0))
    start: int = field(default=250, validator=ge(0))
    ramp: int = field(default=250, validator=ge(0))
    lr: float | None = field(default=None, validator=optional(gt(0)))
    betas: tuple[float, float] = field(default=(0.5, 0.9), validator=deep_iterable(and_(ge(0), lt(1))))
    discriminator: Choice = Choice(use="patchgan")
    loss: Choice = Choice(use="hinge")

    @start.validator
    def _after_begin(self, attribute: object, value: int) -> None:
        if value < self.begin:
            raise ValueError(
                f"start ({value}) comes before begin ({self.begin}): a discriminator is trained before it is asked"
            )


@frozen(kw_only=True)
class Evaluation:
    """How results are measured: samples drawn, features of the distances, images in the picture grids.

    `features` that are named must be there; without names, all that the data and the weights at hand allow are measured.
    `bound` adds an upper bound of the image's own negative log-likelihood. `maps`: of the test split, that the range coder of
    the verification writes and reads; 0 verifies nothing.
    """

    samples: int = field(default=1024, validator=ge(2))
    features: tuple[str, ...] = ()
    batch: int = field(default=128, validator=ge(1))
    grid: int = field(default=64, validator=ge(1))
    bound: bool = False
    maps: int = field(default=16, validator=ge(0))


@frozen(kw_only=True)
class Experiment:
    """One experiment: what a TOML file says, resolved against the defaults.

    `seed` decides every random choice; `repeat` counts repetitions of stage two on the same codes. With `labels`, the
    priors are conditioned on class labels. Without `adversarial` there is no discriminator.
    """

    schema: int = field(default=SCHEMA, validator=in_([SCHEMA]))
    seed: int = field(default=0, validator=ge(0))
    repeat: int = field(default=0, validator=ge(0))
    labels: bool = False
    data: DataChoice = DataChoice(use="shapes")
    encoder: Choice = Choice(use="vqvae")
    quantizer: tuple[Choice, ...] = field(default=(Choice(use="ema"),), validator=min_len(1))
    decoder: Choice = Choice(use="vqvae")
    loss: tuple[LossChoice, ...] = field(default=(LossChoice(use="mse"),), validator=min_len(1))
    prior: tuple[PriorChoice, ...] = field(default=(PriorChoice(use="gpt"),), validator=min_len(1))
    adversarial: Adversarial | None = None
    train: Train = Train()
    evaluate: Evaluation = Evaluation()

    @property
    def quantizer_label(self) -> str:
        """The names of the quantizers, coarse first."""
        return "+".join(choice.use for choice in self.quantizer)

    @property
    def prior_label(self) -> str:
        """The name of the prior, or LEVEL=NAME for each of several."""
        return "+".join(choice.use if choice.level is None else f"{choice.level}={choice.use}" for choice in self.prior)


_SINGLE, _LISTS, _PLAYERS = ("data", "encoder", "decoder"), ("quantizer", "loss", "prior"), ("discriminator", "loss")


def experiment_from(table: Mapping[str, Any]) -> Experiment:
    """An experiment from the tables of a TOML or JSON file.

    A component is a table with `use`, and the fields of its Config beside it; quantizer, loss and prior take one table
    or an array of tables. Raises ConfigError with every fault.
    """
    known: dict[str, Any] = {}
    for key, value in table.items():
        listed = [value] if key in _LISTS and isinstance(value, Mapping) else value
        if key in _LISTS and not isinstance(listed, list | tuple):
            raise ConfigError(f'{key}: expected a table with use = "NAME", or several such tables, got {value!r}')
        if key in _LISTS:
            known[key] = [_split(item, _choice_type(key)) for item in listed]
        elif key == "adversarial" and isinstance(value, Mapping):
            known[key] = {name: _split(part, Choice) if name in _PLAYERS else part for name, part in value.items()}
        elif key == "evaluate" and isinstance(value, Mapping) and isinstance(value.get("features"), str):
            # as runs from before there could be several wrote it, and as a person does
            known[key] = {**value, "features": [name.strip() for name in value["features"].split(",")]}
        else:
            known[key] = _split(value, _choice_type(key)) if key in _SINGLE else value
    return structure(known, Experiment)


def table_of(experiment: Experiment) -> dict[str, Any]:
    """The tables of an experiment, fields of a component beside its `use`: the inverse of `experiment_from`."""
    table: dict[str, Any] = unstructure(experiment)
    for key in _SINGLE:
        table[key] = _join(table[key])
    for key in _LISTS:
        table[key] = [_join(item) for item in table[key]]
    game = table.pop("adversarial")
    if game is not None:
        table["adversarial"] = {
            name: _join(part) if name in _PLAYERS else part for name, part in game.items() if part is not None
        }
    return table


def read_experiment(
    path: Path | None, assignments: Iterable[str] = (), defaults: Mapping[str, Any] | None = None
) -> Experiment:
    """The experiment of a TOML file (None: the defaults), with `--set` assignments applied in order."""
    table = table_of(experiment_from(read_toml(path) if path else defaults or {}))
    for assignment in assignments:
        override(table, assignment)
    return experiment_from(table)


def choices_in(table: Mapping[str, Any]) -> Iterator[tuple[str, Choice]]:
    """Path and choice of those components that can be read in a table, whatever else of it cannot."""
    game = table.get("adversarial")
    players = {f"adversarial.{name}": game.get(name) for name in _PLAYERS} if isinstance(game, Mapping) else {}
    for path, value in ({box: table.get(box) for box in (*_SINGLE, *_LISTS)} | players).items():
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, Mapping) and isinstance(entry.get("use"), str):
                kind = DataChoice if path == "data" else Choice
                known = {"truth": True} if path == "data" and entry.get("truth") is True else {}
                yield path, kind(use=entry["use"], fields=_split(entry, _choice_type(path))["fields"], **known)


def decisive(training: Mapping[str, Any]) -> dict[str, Any]:
    """The table of a training section without `ema` where none is kept: runs from before it existed keep their digest."""
    return {name: value for name, value in training.items() if name != "ema" or value}


def digest(value: object) -> str:
    """SHA-256 (hex) of the canonical text of a config."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def parse_data(text: str) -> DataChoice:
    """`NAME`, `NAME:LOCATION` or `truth:SOURCE` as given to `--data`."""
    name, colon, location = text.partition(":")
    if not name or (colon and not location):
        raise ConfigError(f"--data {text!r}: expected NAME, NAME:LOCATION or truth:SOURCE, such as shapes or folder:images")
    return DataChoice(use=location, truth=True) if name == TRUTH else DataChoice(use=name, location=location or None)


def _choice_type(key: str) -> type:
    return {"data": DataChoice, "loss": LossChoice, "prior": PriorChoice}.get(key, Choice)


def _split(value: Any, kind: type) -> Any:
    if not isinstance(value, Mapping):
        return value
    own = {f.name for f in attrs.fields(kind)} - {"fields"}
    table: dict[str, Any] = {name: value[name] for name in own if name in value and value[name] is not None}
    table["fields"] = {name: field for name, field in value.items() if name not in own}
    return table


def _join(table: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in table.items() if name != "fields" and value is not None and value is not False}
    return own | dict(table["fields"])
