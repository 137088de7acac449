"""What a watcher of training sees, and when it is told: once when it appears, once when it is over.

A finding has a severity: 1 at its threshold, more when worse. It is told when it reaches 1 and is over below 0.8, each
seen twice in a row, so that numbers that waver about a threshold are told once.
"""

from collections.abc import Iterable

from attrs import Factory, define, frozen

from dvgen.training.symptoms import Symptom, see

CONFIRM = 2
"""How often in a row a finding, or its absence, is seen before it is told."""

OVER = 0.8
"""A finding is over below this severity."""


@frozen(kw_only=True)
class Finding:
    """What is seen (`sees`) at `where`, how bad it is, and what to change; `over` is said when it is no more so.

    symptom: the section of the documentation that the message points to.
    """

    kind: str
    symptom: Symptom
    where: str
    severity: float
    sees: str
    change: str
    over: str

    def __str__(self) -> str:
        return f"{self.where}: {self.sees}. Try: {self.change}. {see(self.symptom)}"


@define
class Record:
    """What was told and is not over, by place and kind."""

    open: dict[tuple[str, str], Finding] = Factory(dict)
    streaks: dict[tuple[str, str], int] = Factory(dict)

    def judge(self, findings: Iterable[Finding]) -> list[str]:
        """The lines to tell: of findings that have appeared, and of those that are over."""
        return [line for finding in findings for line in self._judge(finding)]

    def still(self, findings: Iterable[Finding]) -> list[Finding]:
        """Those that hold at the end of training, told before or not."""
        return [f for f in findings if f.severity >= (OVER if (f.where, f.kind) in self.open else 1)]

    def _judge(self, finding: Finding) -> list[str]:
        key = (finding.where, finding.kind)
        known = key in self.open
        changing = finding.severity < OVER if known else finding.severity >= 1
        self.streaks[key] = self.streaks.get(key, 0) + 1 if changing else 0
        if self.streaks[key] < CONFIRM:
            return []
        self.streaks[key] = 0
        if known:
            del self.open[key]
            return [f"{finding.where}: {finding.over}"]
        self.open[key] = finding
        return [str(finding)]
