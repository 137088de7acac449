"""`metrics.jsonl`: one line a logged step, and after a resumption no step twice."""

import json
from pathlib import Path

import pytest

from dvgen.discovery import discover
from dvgen.hookspecs import Run


@pytest.fixture
def broadcast():
    """The events as a run sends them, through the real hooks, to the trackers alone."""
    plugins = discover()
    for name, _ in plugins.manager.list_name_plugin():
        if name != "trackers":
            plugins.manager.unregister(name=name)
    assert plugins.manager.has_plugin("trackers")
    return plugins.broadcast


def run_at(folder: Path, step: int) -> Run:
    return Run(folder=folder, stage="tokenizer", name="run", step=step, config={})


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def train(broadcast, folder: Path, start: int, stop: int) -> None:
    run = run_at(folder, start)
    broadcast("dvgen_run_started", run=run)
    for step in range(start + 1, stop + 1):
        broadcast("dvgen_step", run=run, step=step, values={"loss": 1 / step})
    broadcast("dvgen_run_finished", run=run, results={"loss": 1 / stop})


def test_every_step_is_one_line_that_json_reads(broadcast, tmp_path):
    train(broadcast, tmp_path, 0, 3)
    assert lines(tmp_path) == [{"step": step, "loss": 1 / step} for step in (1, 2, 3)]


def test_a_resumed_run_holds_every_step_once(broadcast, tmp_path):
    train(broadcast, tmp_path, 0, 5)
    train(broadcast, tmp_path, 3, 7)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5, 6, 7]


def test_a_run_started_anew_drops_what_an_older_one_left(broadcast, tmp_path):
    train(broadcast, tmp_path, 0, 5)
    train(broadcast, tmp_path, 0, 2)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


@pytest.mark.parametrize("torn", [b'{"step": 3, "lo', b'{"step": 2', b"\xff\xfe", b"[3]\n", b'{"loss": 3}\n', b"\n"])
def test_a_line_that_a_crash_tore_is_dropped(broadcast, tmp_path, torn):
    train(broadcast, tmp_path, 0, 2)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    train(broadcast, tmp_path, 2, 4)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4]


def test_a_line_is_on_its_way_to_the_disk_before_the_next_step(broadcast, tmp_path):
    """Another process that looks while the run goes on sees every logged step."""
    run = run_at(tmp_path, 0)
    broadcast("dvgen_run_started", run=run)
    for step in (1, 2, 3):
        broadcast("dvgen_step", run=run, step=step, values={})
        assert [line["step"] for line in lines(tmp_path)] == list(range(1, step + 1))


def test_a_tracker_that_cannot_write_costs_a_warning_and_not_the_run(broadcast, tmp_path):
    run = run_at(tmp_path / "nowhere", 0)
    with pytest.warns(UserWarning, match="plugin 'trackers': dvgen_step failed, its events stop: FileNotFoundError"):
        broadcast("dvgen_step", run=run, step=1, values={"loss": 1.0})
    broadcast("dvgen_step", run=run, step=2, values={"loss": 1.0})


def test_a_notice_is_a_line_of_its_step_and_is_dropped_with_it(broadcast, tmp_path):
    train(broadcast, tmp_path, 0, 2)
    for step in (2, 3):
        broadcast("dvgen_notice", run=run_at(tmp_path, 0), step=step, text='a "codebook"')
    assert lines(tmp_path)[2:] == [{"step": step, "notice": 'a "codebook"'} for step in (2, 3)]
    broadcast("dvgen_run_started", run=run_at(tmp_path, 2))
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 2]
