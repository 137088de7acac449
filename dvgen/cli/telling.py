"""What the command line says of an error: lines for standard error, the last of which points to its symptom, if it has one."""

import errno

from dvgen.errors import DataError, DvgenError, NonFiniteError
from dvgen.training.memory import in_short, out_of_memory
from dvgen.training.symptoms import Symptom, see

SYMPTOMS: dict[type[DvgenError], Symptom] = {NonFiniteError: Symptom.NOT_FINITE}
"""What to read where an error of this class ends a command."""

_LESS = (
    "Try: --set train.tokenizer.micro_batches=4 or train.prior.micro_batches=4, a smaller evaluate.batch, "
    "or --batch 8 of dvgen sample"
)


def lines_of(error: DvgenError) -> list[str]:
    """One a fault."""
    symptom = next((symptom for cls, symptom in SYMPTOMS.items() if isinstance(error, cls)), None)
    return (str(error) if symptom is None else f"{error}. {see(symptom)}").splitlines()


_ROOM = (
    "Free some space: what was finished is kept, and dvgen train --resume RUN, or the same dvgen compare again, goes on; "
    "or begin anew with --out on another disk"
)
_FULL = ("No space left on device", "Disk quota exceeded", "File too large")
"""As the operating system says it, whoever was told: libraries that write files put it into errors of their own."""


def told(error: Exception) -> tuple[str, int]:
    """What is said of an error that is none of dvgen's own, and the exit code: a machine lacks something, or dvgen errs."""
    if out_of_memory(error):
        return f"out of memory: {in_short(error)}. {_LESS}. {see(Symptom.OUT_OF_MEMORY)}", DvgenError.exit_code
    text = " ".join(str(error).split())
    if disk_full(error):
        where = getattr(error, "filename", None)
        return f"{f'{where}: ' if where else ''}cannot be written: the disk is full ({text}). {_ROOM}", DataError.exit_code
    line = f"internal error: {type(error).__name__}: {text}; set DVGEN_DEBUG=1 for the traceback, and please report it"
    return line, DvgenError.exit_code


def disk_full(error: Exception) -> bool:
    """Whether a write was refused for want of room: of the disk, or of what its user may have."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return any(words in str(error) for words in _FULL)
