"""The hooks a plugin may implement. Imports no torch."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pluggy
from attrs import frozen

from dvgen.registry import Component

hookspec = pluggy.HookspecMarker("dvgen")


@frozen(kw_only=True)
class Run:
    """One training run as its observers see it: plain data, nothing to act on.

    `step` is the optimiser step the run starts from (0, or that of the checkpoint it resumed from).
    """

    folder: Path
    stage: str
    name: str
    step: int
    config: Mapping[str, object]


@hookspec
def dvgen_components() -> Iterable[Component]:  # type: ignore[empty-body]
    """Return the components this plugin supplies. Called once, when dvgen starts; must not import torch."""


@hookspec
def dvgen_run_started(run: Run) -> None:
    """Told when training starts or resumes, on rank 0, before the first step.

    On a resumed run, what was recorded after `run.step` belongs to steps that will be done again: drop it.
    """


@hookspec
def dvgen_step(run: Run, step: int, values: Mapping[str, float]) -> None:
    """Told after every logged training step, on rank 0. `step` counts finished optimiser steps, from 1."""


@hookspec
def dvgen_notice(run: Run, step: int, text: str) -> None:
    """Told when training has something to say to the person who trains, on rank 0: one line of text, in plain words."""


@hookspec
def dvgen_run_finished(run: Run, results: Mapping[str, float]) -> None:
    """Told once, on rank 0, when the run's last checkpoint is on disk."""
