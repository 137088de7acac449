"""Compiling what a stage trains: in place, so that no weight changes its name, and undone when training is over."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import final

import torch
from torch import nn

from dvgen.errors import ConfigError

RECOMPILES = 64
"""Graphs that one function may be compiled to. All modules share one function, and a model of many levels has many priors."""


@final
class Compilation:
    """The modules of one training run that are compiled, and how often the compiler was called.

    The compiler works when a module is first called, and again when it is called otherwise than before: see `graphs`.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.modules = modules

    @contextmanager
    def active(self) -> Iterator[None]:
        """Calls of the modules are compiled in this block; afterwards they are as they were.

        Raises ConfigError with the first words of the compiler when it fails.
        """
        import torch._dynamo  # takes a second: only who compiles has to wait

        torch.compiler.reset()  # what other runs of this process left would count towards the limit
        try:
            with torch._dynamo.config.patch(recompile_limit=RECOMPILES), warnings.catch_warnings():
                # the compiler looks at the gradients of what a module is given, and is warned as if a person had
                warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf", UserWarning)
                for module in self.modules:
                    module.compile(dynamic=False)
                yield
        except torch._dynamo.exc.TorchDynamoException as error:
            # the first line may say no more than who raised the second
            reason = " ".join(line.strip() for line in str(error).splitlines()[:2]).strip() or type(error).__name__
            raise ConfigError(f"--compile: torch cannot compile this model: {reason}; drop --compile") from error
        finally:
            for module in self.modules:
                module._compiled_call_impl = None  # torch has `compile`, and nothing that takes it back
            torch.compiler.reset()

    @staticmethod
    @contextmanager
    def eagerly() -> Iterator[None]:
        """Nothing is compiled in this block, nor is anything that was compiled used."""
        with torch.compiler.set_stance("force_eager"):
            yield

    @staticmethod
    def graphs() -> int:
        """How many functions the compiler has looked at so far in this process."""
        return int(torch._dynamo.utils.counters["frames"]["total"])
