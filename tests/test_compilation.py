"""Compiled training: the same losses, the same names, resumable, and its compiling is not training."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from test_adversarial import made as game_loop
from torch import nn
from toy_runs import STAGES, Watch, dvgen, loop, same, saved, session

from dvgen.errors import ConfigError, Stopped
from dvgen.training.checkpoint import load_newest
from dvgen.training.compilation import Compilation
from dvgen.training.loop import Loop


def compiling(at: int = -1) -> tuple[Any, Watch]:
    """A session that compiles, with an observer; it asks to stop at step `at`."""
    opened = session(compile=True)
    watch = Watch(at, lambda: setattr(opened.stop, "asked", True))
    opened.plugins.manager.register(watch, name="watch")
    return opened, watch


def without_dropout(made: Loop) -> Loop:
    """A compiler draws random numbers of its own."""
    for module in made.stage.module.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return made


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Graphs are taken down, forward and backward, and run as they are: all of compiling but the slow part."""
    real = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module, **more: real(module, backend="aot_eager", **more))
    yield
    torch.compiler.reset()


def run_both(tmp_path: Path, name: str) -> tuple[Watch, Watch]:
    plain, compiled = Watch(), Watch()
    for folder, watch, opened in (("plain", plain, session()), ("compiled", compiled, session(compile=True))):
        opened.plugins.manager.register(watch, name="watch")
        made = (
            game_loop(tmp_path / folder, opened, start=2, begin=1) if name == "game" else loop(opened, name, tmp_path / folder)
        )
        without_dropout(made).run()
    return plain, compiled


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("name", [*STAGES, "game"])
def test_compiled_training_is_eager_training_to_rounding(tmp_path: Path, name: str) -> None:
    """Every logged loss, and every tensor of the checkpoint by name; the first step is eager, the others are not."""
    plain, compiled = run_both(tmp_path, name)
    for one, other in zip(plain.values, compiled.values, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-3)
        assert other["flops"] == one["flops"]
    assert plain.values[0]["loss"] == compiled.values[0]["loss"]
    one, other = saved(tmp_path / "plain"), saved(tmp_path / "compiled")
    assert one.keys() == other.keys()
    for key, tensor in one.items():
        torch.testing.assert_close(other[key], tensor, rtol=1e-2, atol=1e-3, msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_training_compiled_to_machine_code_is_eager_training_to_rounding(tmp_path: Path, name: str) -> None:
    plain, compiled = run_both(tmp_path, name)
    for one, other in zip(plain.values, compiled.values, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-3)
    assert saved(tmp_path / "plain").keys() == saved(tmp_path / "compiled").keys()


@pytest.mark.usefixtures("traced")
def test_a_compiled_run_that_was_stopped_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    """Stage one, whose codebooks move too; the loop is the same for both."""
    for folder, stop in (("whole", -1), ("cut", 3), ("cut", -1)):
        made = without_dropout(loop(compiling(stop)[0], "tokenizer", tmp_path / folder))
        with pytest.raises(Stopped) if stop > 0 else nullcontext():
            made.run()
    assert same(saved(tmp_path / "cut"), saved(tmp_path / "whole"))


@pytest.mark.usefixtures("traced")
def test_modules_are_compiled_in_training_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out codes are judged, and the finished model is called, as without --compile; the counted step is eager."""
    opened, _ = compiling()
    made = loop(opened, "prior", tmp_path / "run")
    (prior,) = made.stage.compiled()
    calls: list[tuple[bool, bool]] = []
    logits = type(prior).logits

    def noted(self: Any, *arguments: Any) -> Any:
        calls.append((self.training, torch.compiler.is_compiling()))
        return logits(self, *arguments)

    monkeypatch.setattr(type(prior), "logits", noted)
    made.run()
    assert calls[0] == (True, False), "the step that is counted"
    assert (True, True) in calls[1:]
    assert (False, False) in calls, "held-out codes"
    assert (False, True) not in calls
    assert prior._compiled_call_impl is None
    calls.clear()
    made.stage.held_out(4)
    assert set(calls) == {(False, False)}


@pytest.mark.usefixtures("traced")
def test_what_compiling_takes_is_told_and_is_not_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that moves when told: a step takes 1, compiling 1000. Neither the counted nor the compiled step is timed."""
    now = [0.0]
    monkeypatch.setattr("dvgen.training.meter.time.monotonic", lambda: now[0])
    opened, watch = compiling()
    made = loop(opened, "prior", tmp_path / "run", budget="seconds:4")
    compute, graphs, step = made.stage.compute, [0], [0]

    def slowly(*arguments: Any) -> Any:
        step[0] += 1
        recompiles = step[0] in (2, 5)
        graphs[0] += recompiles
        now[0] += 1000.0 if recompiles else 1.0
        return compute(*arguments)

    monkeypatch.setattr(made.stage, "compute", slowly)
    monkeypatch.setattr(Compilation, "graphs", staticmethod(lambda: graphs[0]))
    done = made.run()
    assert (done.step, done.seconds) == (7, 4.0)
    assert [values["seconds"] for values in watch.values] == [0, 0, 1, 2, 2, 3, 4]
    assert [values["compile_seconds"] for values in watch.values] == [0, 1000, 1000, 1000, 2000, 2000, 2000]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    notices = [line["notice"] for line in lines if "notice" in line]
    assert notices == ["compiling took 2000 s, which are not counted as training"]


@pytest.mark.usefixtures("traced")
def test_the_compiler_is_seen_at_work(tmp_path: Path) -> None:
    """By the compiler's own counter: once, in the second step."""
    opened, watch = compiling()
    made = without_dropout(loop(opened, "prior", tmp_path / "run"))
    made.run()
    seconds = [values["compile_seconds"] for values in watch.values]
    assert seconds[0] == 0
    assert seconds[1] > 0
    assert seconds[1:] == [seconds[1]] * 5


def test_without_compiling_nothing_is_said_of_it(tmp_path: Path) -> None:
    opened = session()
    watch = Watch()
    opened.plugins.manager.register(watch, name="watch")
    loop(opened, "prior", tmp_path / "run").run()
    assert not any("compile_seconds" in values for values in watch.values)


def test_a_compiler_that_fails_costs_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves the modules as they were, and the newest checkpoint."""

    def backend(graph: object, inputs: object) -> object:
        raise RuntimeError("no C++ compiler\nand a long story")

    real = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module, **more: real(module, backend=backend, **more))
    made = loop(compiling()[0], "prior", tmp_path / "run", checkpoint_every=1)
    with pytest.raises(ConfigError, match=r"^--compile: [^\n]*no C\+\+ compiler[^\n]*drop --compile$"):
        made.run()
    assert all(module._compiled_call_impl is None for module in made.stage.compiled())
    newest = load_newest(tmp_path / "run")
    assert newest is not None
    assert newest.step == 1


def test_the_commands_that_train_take_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("train", "compare"):
        assert dvgen(command, "--help") == 0
        assert "--compile" in capsys.readouterr().out
