"""Precision of training: "auto" becomes a word of its own before anything is named by it, and what is asked for is computed."""

import json
from pathlib import Path

import attrs
import pytest
import torch
from toy_components import NoiseDataset
from toy_runs import TINY_GPT, dvgen, experiment, loop, session, settings, toy_cache

from dvgen.config import structure
from dvgen.errors import ConfigError
from dvgen.experiment import PRECISIONS, Experiment, Train, experiment_from
from dvgen.training.finiteness import Finiteness
from dvgen.training.prior import prior_config, train_prior
from dvgen.training.session import Hardware, resolve_precision
from dvgen.training.tokenizer import tokenizer_config, train_tokenizer

USAGE = 2


def machine(monkeypatch: pytest.MonkeyPatch, **supports: bool) -> None:
    """A processor that has these instructions and no others."""
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda name=name: supports.get(name, False), raising=False)


@pytest.mark.parametrize(
    ("supports", "expected"), [({}, "32-true"), ({"avx512_bf16": True}, "bf16-mixed"), ({"amx_tile": True}, "bf16-mixed")]
)
def test_auto_is_bfloat16_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, supports: dict[str, bool], expected: str
) -> None:
    machine(monkeypatch, **supports)
    assert resolve_precision(Experiment(), "cpu").train.precision == expected


def test_a_torch_that_cannot_say_what_the_processor_has_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert resolve_precision(Experiment(), "cpu").train.precision == "32-true"


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "32-true"), ((8, 0), "bf16-mixed"), ((12, 0), "bf16-mixed")])
def test_auto_is_bfloat16_on_graphics_cards_since_ampere(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    for accelerator in ("auto", "cuda"):
        assert resolve_precision(Experiment(), accelerator).train.precision == expected


def test_auto_is_float32_on_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, avx512_bf16=True)
    assert resolve_precision(Experiment(), "mps").train.precision == "32-true"


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_precision_that_is_named_is_kept(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    """So a run that goes on elsewhere goes on as it began."""
    machine(monkeypatch, avx512_bf16=precision == "32-true")
    named = Experiment(train=Train(precision=precision))
    assert resolve_precision(named, "cpu") is named


def test_only_the_precision_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, avx512_bf16=True)
    found = resolve_precision(Experiment(seed=5), "cpu")
    assert attrs.evolve(found, train=attrs.evolve(found.train, precision="auto")) == Experiment(seed=5)


def test_a_config_of_before_there_was_auto_decides_what_it_did() -> None:
    """The parts of a resolved config that a run folder of float32 was named by, with the word written out."""
    old = experiment_from({"train": {"precision": "32-true"}})
    assert tokenizer_config(old)["train"]["precision"] == "32-true"
    assert prior_config(old, "tokens")["train"]["precision"] == "32-true"


def test_hardware_computes_in_no_precision_called_auto() -> None:
    with pytest.raises(ConfigError, match="resolve_precision"):
        structure({"precision": "auto"}, Hardware)
    with pytest.raises(ConfigError, match="'32-true' or 'bf16-mixed'"):
        structure({"precision": "16"}, Hardware)


@pytest.mark.parametrize(("said", "computed"), [("auto", "32-true"), ("bf16-mixed", "32-true"), ("32-true", "bf16-mixed")])
def test_nothing_is_trained_in_another_precision_than_it_says(tmp_path: Path, said: str, computed: str) -> None:
    """Its digest says so too: as a library, dvgen is given experiment and session apart, and "auto" decides nothing."""
    opened = session(precision=computed)
    chosen = experiment(opened, train={"precision": said})
    with pytest.raises(ConfigError, match=f"'{said}', but this session computes in '{computed}'.*resolve_precision"):
        train_tokenizer(opened, chosen, NoiseDataset(), torch.arange(8), tmp_path / "tokenizer")
    with pytest.raises(ConfigError, match=f"'{said}', but this session computes in '{computed}'.*resolve_precision"):
        train_prior(opened, chosen, toy_cache(tmp_path / "tokens"), tmp_path / "prior")
    assert {path.name for path in tmp_path.iterdir()} == {"tokens"}


@pytest.mark.parametrize("name", ["tokenizer", "prior"])
def test_both_stages_are_computed_in_the_precision_of_the_session(tmp_path: Path, name: str) -> None:
    """By the types of matrix products and convolutions. On one device, Fabric applies autocast to `forward` alone."""

    def seen(precision: str) -> set[torch.dtype]:
        made = loop(session(precision=precision), name, tmp_path / precision, budget="steps:2")
        types: set[torch.dtype] = set()

        def note(module: torch.nn.Module, given: object, result: torch.Tensor) -> None:
            if module.training and result.requires_grad:  # neither held-out codes nor what codebooks begin with
                types.add(result.dtype)

        for module in made.stage.module.modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                module.register_forward_hook(note)
        made.run()
        return types

    assert seen("32-true") == {torch.float32}
    assert seen("bf16-mixed") == {torch.bfloat16}


@pytest.mark.parametrize("name", ["tokenizer", "prior"])
def test_losses_gradients_and_weights_are_float32_in_bfloat16_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """And near those of float32, whose numbers have 8 bits more than 8."""
    seen: list[dict[str, torch.Tensor]] = []
    real = Finiteness.check

    def noted(self: Finiteness, step: int, numbers: dict[str, torch.Tensor]) -> None:
        seen.append(numbers)
        real(self, step, numbers)

    monkeypatch.setattr(Finiteness, "check", noted)
    for precision in ("32-true", "bf16-mixed"):
        made = loop(session(precision=precision), name, tmp_path / precision, budget="steps:1")
        for module in made.stage.module.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        made.run()
        assert {weight.dtype for weight in made.stage.module.parameters()} == {torch.float32}
    full, half = seen
    assert half.keys() == full.keys() == {"loss", "gradient_norm"}
    for key, number in half.items():
        assert number.dtype == torch.float32
        assert float(number) == pytest.approx(float(full[key]), rel=0.03)
        assert not torch.equal(number, full[key])


def trained(folder: Path, *more: str) -> int:
    given = settings(*TINY_GPT, steps=(1, 1))
    at = given.index("--precision")
    return dvgen("train", "--out", str(folder), *given[:at], *given[at + 2 :], *more)


@pytest.mark.parametrize(("native", "chosen"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_run_says_and_writes_what_auto_became(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], native: bool, chosen: str
) -> None:
    machine(monkeypatch, avx512_bf16=native)
    assert trained(tmp_path / "run") == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("precision:")]
    assert len(told) == 1
    assert told[0].startswith(f"precision: {chosen} (")
    assert f"--precision {'32-true' if native else 'bf16-mixed'}" in told[0]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["train"]["precision"] == chosen
    assert f'precision = "{chosen}"' in (tmp_path / "run" / "experiment.toml").read_text()
    machine(monkeypatch, avx512_bf16=not native)
    before = (tmp_path / "run" / "config.json").read_bytes()
    assert dvgen("train", "--resume", str(tmp_path / "run"), "--accelerator", "cpu") == 0, "elsewhere"
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    assert "precision:" not in capsys.readouterr().err


def test_what_was_asked_for_is_not_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trained(tmp_path / "run", "--precision", "32-true") == 0
    assert "precision:" not in capsys.readouterr().err


def test_a_comparison_trains_in_one_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its session has one; a recipe may name another than the one beside it."""
    experiments = {precision: Experiment(train=Train(precision=precision)) for precision in PRECISIONS[1:]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dvgen.cli.compare.grid", lambda *_: list(experiments.values()))
        assert dvgen("compare", "--out", str(tmp_path / "c")) == USAGE
    assert "32-true and bf16-mixed in one comparison" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
