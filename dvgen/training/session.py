"""What every part of a run shares: the plugins, the device, and whether somebody asked to stop."""

import gc
import os
import warnings
from typing import Any, final

import torch
from attrs import field, frozen
from attrs.validators import ge, in_
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision, Precision

from dvgen.discovery import Plugins
from dvgen.errors import ConfigError
from dvgen.experiment import PRECISIONS
from dvgen.registry import Registry
from dvgen.training.interrupt import StopRequest

ACCELERATORS = ("auto", "cpu", "cuda", "mps")


@frozen(kw_only=True)
class Hardware:
    """Where to train: kind of device, how many, and the precision of matrix products. `deterministic` costs speed on a GPU."""

    accelerator: str = field(default="auto", validator=in_(ACCELERATORS))
    devices: int = field(default=1, validator=ge(1))
    precision: str = field(default="32-true", validator=in_(PRECISIONS))
    deterministic: bool = False


@frozen
class Session:
    """The plugins, the launched Fabric and the stop request of one command."""

    plugins: Plugins
    fabric: Fabric
    stop: StopRequest

    @property
    def registry(self) -> Registry:
        """What the plugins supply."""
        return self.plugins.registry

    def broadcast(self, hook: str, **arguments: Any) -> None:
        """Tell the plugins of an event, on rank 0 only."""
        if self.fabric.is_global_zero:
            self.plugins.broadcast(hook, **arguments)

    def any_rank(self, flag: bool) -> bool:
        """Whether the flag is set on any rank."""
        if self.fabric.world_size == 1:
            return flag
        total = self.fabric.all_reduce(torch.tensor(float(flag), device=self.fabric.device), reduce_op="sum")
        return bool(total > 0)  # type: ignore[operator]


@final
class Bfloat16(MixedPrecision):
    """Autocast to bfloat16. It scales no loss, so its backward is the plain one.

    Fabric's own class replaces it all the same, and Fabric then refuses torch.autograd.grad, which the adaptive weight takes.
    """

    backward = Precision.backward


def _device(accelerator: str) -> str:
    """The kind of device that Fabric will take."""
    if accelerator != "auto":
        return accelerator
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def open_session(plugins: Plugins, stop: StopRequest, hardware: Hardware) -> Session:
    """Launch Fabric on the hardware asked for. Raises ConfigError when the machine does not have it."""
    if hardware.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself only with a fixed workspace
        torch.use_deterministic_algorithms(True)
    with warnings.catch_warnings():
        # Fabric advises on what we decided on purpose (CPU while a GPU exists, srun present, ...)
        warnings.simplefilter("ignore")
        try:
            strategy = "ddp" if hardware.devices > 1 else "auto"
            mixed = Bfloat16("bf16-mixed", _device(hardware.accelerator)) if hardware.precision == "bf16-mixed" else None
            fabric = Fabric(accelerator=hardware.accelerator, devices=hardware.devices, strategy=strategy, plugins=mixed)
            fabric.launch()
        except (RuntimeError, ValueError) as error:
            asked = f"--accelerator {hardware.accelerator} --devices {hardware.devices}"
            raise ConfigError(f"{asked}: not on this machine: {str(error).splitlines()[0]}") from None
    return Session(plugins, fabric, stop)


def close_session(session: Session) -> None:
    """Take the process group down, where there is one, when every rank gets here.

    A gloo process that ends with its group up, or takes it down under a living DDP module, aborts now and then.
    """
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return
    gc.collect()
    session.fabric.barrier()
    torch.distributed.destroy_process_group()
