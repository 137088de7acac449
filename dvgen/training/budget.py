"""Training budgets: steps, or seconds of training time."""

from attrs import frozen

from dvgen.errors import ConfigError
from dvgen.experiment import Training


@frozen
class Budget:
    """How long to train. Step budgets are reproducible bit for bit; second budgets depend on the machine."""

    unit: str
    amount: float

    @classmethod
    def of(cls, training: Training) -> "Budget":
        """The budget of a training section, "steps:N" or "seconds:S"."""
        unit, _, amount = training.budget.partition(":")
        return cls(unit, float(amount))

    def progress(self, step: int, seconds: float) -> float:
        """The share that is spent after `step` steps and `seconds` of training, at most 1."""
        spent = step if self.unit == "steps" else seconds
        return min(1.0, spent / self.amount)


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
