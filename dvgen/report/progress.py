"""Training as it goes, on the terminal: a live bar, or a line now and then where there is no terminal."""

import time
from collections.abc import Mapping
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from dvgen import hookimpl
from dvgen.hookspecs import Run

QUIET_SECONDS = 15.0
"""Between two lines, where there is no terminal."""


class ProgressConsole:
    """An observer of runs that shows stage, loss, throughput and time left."""

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self.task: TaskID | None = None
        self.spoken = 0.0

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    @hookimpl
    def dvgen_run_started(self, run: Run) -> None:
        """Begin a bar."""
        resumed = f", from step {run.step}" if run.step else ""
        self._line(f"{run.stage}: {run.folder}{resumed}")
        self.task = self.bar.add_task(run.stage, total=1.0, text="")
        self.spoken = time.monotonic()

    @hookimpl
    def dvgen_step(self, run: Run, step: int, values: Mapping[str, float]) -> None:
        """Move the bar, or say a line when it is time for one."""
        done, seconds = values["progress"], values["seconds"]
        left = seconds * (1 - done) / done if done else 0.0
        speed = f"  {values['examples_per_second']:.0f}/s  {_clock(left)} left" if seconds else ""  # none is known at first
        text = f"step {step}  loss {values['loss']:.4f}{speed}"
        if self.task is not None:
            self.bar.update(self.task, completed=done, text=text)
        if not self.console.is_terminal and time.monotonic() - self.spoken > QUIET_SECONDS:
            self._line(f"{run.stage}: {done:4.0%}  {text}")
            self.spoken = time.monotonic()

    @hookimpl
    def dvgen_notice(self, run: Run, step: int, text: str) -> None:
        """Say it, above the bar where there is one."""
        self._line(f"{run.stage}: step {step}: {text}")

    @hookimpl
    def dvgen_run_finished(self, run: Run, results: Mapping[str, float]) -> None:
        """Close the bar."""
        if self.task is not None:
            self.bar.remove_task(self.task)
            self.task = None
        self._line(f"{run.stage}: {results['step']:.0f} steps in {_clock(results['seconds'])}")

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
