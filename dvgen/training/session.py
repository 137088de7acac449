"""What every part of a run shares: the plugins, the device, and whether somebody asked to stop."""

import gc
import os
import warnings
from typing import Any, final

import torch
from attrs import evolve, field, frozen
from attrs.validators import ge, in_
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision, Precision

from dvgen.discovery import Plugins
from dvgen.errors import ConfigError
from dvgen.experiment import AUTO, PRECISIONS, Experiment
from dvgen.registry import Registry
from dvgen.training.interrupt import StopRequest

ACCELERATORS = ("auto", "cpu", "cuda", "mps")


def _resolved(instance: object, attribute: object, value: str) -> None:
    """attrs validator: a precision that can be computed in."""
    known = [precision for precision in PRECISIONS if precision != AUTO]
    if value not in known:
        advice = "; resolve_precision(experiment) says what it is on this machine" if value == AUTO else ""
        raise ValueError(f"expected {' or '.join(map(repr, known))}, got {value!r}{advice}")


@frozen(kw_only=True)
class Hardware:
    """Where and how to train: kind of device, how many, the precision of matrix products, whether models are compiled.

    `deterministic` costs speed on a GPU.
    """

    accelerator: str = field(default="auto", validator=in_(ACCELERATORS))
    devices: int = field(default=1, validator=ge(1))
    precision: str = field(default="32-true", validator=_resolved)
    deterministic: bool = False
    compile: bool = False


@frozen
class Session:
    """The plugins, the launched Fabric and the stop request of one command; how it trains: see `Hardware`."""

    plugins: Plugins
    fabric: Fabric
    stop: StopRequest
    precision: str = "32-true"
    compile: bool = False

    @property
    def registry(self) -> Registry:
        """What the plugins supply."""
        return self.plugins.registry

    def broadcast(self, hook: str, **arguments: Any) -> None:
        """Tell the plugins of an event, on rank 0 only."""
        if self.fabric.is_global_zero:
            self.plugins.broadcast(hook, **arguments)

    def check_precision(self, experiment: Experiment) -> None:
        """Raise ConfigError unless this session computes in the precision that the experiment says it is trained in."""
        wanted = experiment.train.precision
        if wanted != self.precision:
            raise ConfigError(
                f"train.precision: {wanted!r}, but this session computes in {self.precision!r}; open one for the precision of "
                "resolve_precision(experiment), and train what that returns"
            )

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


def resolve_precision(experiment: Experiment, accelerator: str = "auto") -> Experiment:
    """The experiment with the precision that "auto" means on this machine, and as it is when it names one.

    Before anything is digested or written: what was trained in another precision is another model. bfloat16 where the device
    multiplies it natively; elsewhere it is emulated, and slower than float32.
    """
    if experiment.train.precision != AUTO:
        return experiment
    chosen = "bf16-mixed" if _multiplies_bfloat16(_device(accelerator)) else "32-true"
    return evolve(experiment, train=evolve(experiment.train, precision=chosen))


def _multiplies_bfloat16(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
    if device != "cpu":
        return False
    # torch has no public way to ask, so a version without these names counts as a processor without these instructions
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(supported() for supported in asked if supported is not None)


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
    return Session(plugins, fabric, stop, hardware.precision, hardware.compile)


def close_session(session: Session) -> None:
    """Take the process group down, where there is one, when every rank gets here.

    A gloo process that ends with its group up, or takes it down under a living DDP module, aborts now and then.
    """
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return
    gc.collect()
    session.fabric.barrier()
    torch.distributed.destroy_process_group()
