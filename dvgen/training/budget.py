"""Training budgets: steps, codes, floating-point operations, or seconds of training."""

from attrs import frozen

from dvgen.errors import ConfigError
from dvgen.experiment import Training
from dvgen.training.meter import Spent

HELD_OUT_POINTS = 20
"""How often held-out codes are looked at in the course of a budget."""


@frozen
class Budget:
    """How long to train; training ends with the first step that reaches it.

    Budgets of steps, codes and operations are reproducible bit for bit; those of seconds depend on the machine. A run is
    a result at its own budget alone: with `decay` the learning rate has not yet fallen at any point before, so a model
    taken from there is worse than one whose budget ended there. Every budget to compare at is a run of its own.
    """

    unit: str
    amount: float

    @classmethod
    def of(cls, training: Training) -> "Budget":
        """The budget of a training section, such as "steps:800"."""
        unit, _, amount = training.budget.partition(":")
        return cls(unit, float(amount))

    def progress(self, spent: Spent) -> float:
        """The share that is spent, at most 1."""
        return min(1.0, getattr(spent, self.unit) / self.amount)

    def check(self, spent: Spent) -> None:
        """Raise ConfigError for a budget that, after a step, has not come nearer to its end: it never would."""
        if self.unit == "flops" and not spent.flops:
            raise ConfigError(
                f"budget flops:{self.amount:g}: a step of this model has no matrix product, convolution or attention, "
                "so none of its operations are counted; give the budget in steps, codes or seconds"
            )


def passes_point(before: float, after: float) -> bool:
    """Whether one of the HELD_OUT_POINTS, evenly spaced over the budget, lies between two values of its progress."""
    return int(before * HELD_OUT_POINTS) < int(after * HELD_OUT_POINTS)


def learning_share(training: Training, step: int, progress: float) -> float:
    """The next step's share of the learning rate: linear warm-up, 1, linear decay to 0 over the last `decay` of the budget."""
    rising = min(1.0, (step + 1) / training.warmup) if training.warmup else 1.0
    falling = min(1.0, (1.0 - progress) / training.decay) if training.decay else 1.0
    return rising * falling


def check_division(training: Training, devices: int) -> None:
    """Raise ConfigError unless a batch can be divided evenly among devices and micro-batches."""
    if training.batch % (devices * training.micro_batches):
        raise ConfigError(
            f"batch {training.batch} cannot be divided among {devices} devices and "
            f"{training.micro_batches} micro-batches; choose a multiple"
        )
