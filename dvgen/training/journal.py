"""What a run says of itself: its status in its folder, and values and notices to its observers."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from attrs import frozen
from torch import Tensor

from dvgen.errors import IntegrityError, NonFiniteError
from dvgen.hookspecs import Run
from dvgen.training.folder import write_status
from dvgen.training.ranks import total
from dvgen.training.session import Session
from dvgen.training.stage import Stage


@frozen
class Journal:
    """One stage under way, as others see it; `run` is how observers know it."""

    session: Session
    stage: Stage
    run: Run

    def status(self, status: str, step: int, **more: Any) -> None:
        """Write what becomes of the run into its folder."""
        if self.session.fabric.is_global_zero:
            write_status(self.run.folder, status, stage=self.stage.name, step=step, **more)

    def started(self) -> None:
        """Tell that training begins or goes on."""
        self.session.broadcast("dvgen_run_started", run=self.run)

    def finished(self, results: Mapping[str, float]) -> None:
        """Tell what was spent, once the last checkpoint is on disk."""
        self.session.broadcast("dvgen_run_finished", run=self.run, results=results)

    def notice(self, step: int, text: str) -> None:
        """Tell a person something."""
        self.session.broadcast("dvgen_notice", run=self.run, step=step, text=text)

    def report(self, step: int, *, finished: bool = False) -> Mapping[str, float]:
        """Tell the stage's notices; returns its values to log."""
        report = self.stage.report(step, partial(total, self.session.fabric), finished=finished)
        for text in report.notices:
            self.notice(step, text)
        return report.values

    def log(self, step: int, values: Mapping[str, Tensor], clock: Mapping[str, float]) -> None:
        """Tell the values of a step, and what the stage has to report."""
        told = {name: float(value) for name, value in values.items()} | dict(self.report(step))
        self.session.broadcast("dvgen_step", run=self.run, step=step, values=told | dict(clock))
        self.status("running", step)

    def held_out(self, step: int, batch: int) -> float | None:
        """The stage's likelihood of held-out codes; None when it has none.

        A value that is no likelihood is told and left out: it is evaluation that judges, and training goes on.
        """
        try:
            return self.stage.held_out(batch)
        except (NonFiniteError, IntegrityError) as error:
            self.notice(step, f"held-out codes: {error}")
            return None
