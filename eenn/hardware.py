"""Fast settings of PyTorch and of the allocator for the machine at hand."""

import ctypes
import platform
from typing import NamedTuple

import torch

from eenn.provenance import processor

# glibc's mallopt parameters, from malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


class Machine(NamedTuple):
    """A prepared machine: its name, the Trainer's precision, and one line about the settings."""

    hardware: str
    precision: str
    settings: str


def prepare(accelerator: str) -> Machine:
    """Set this process up for training on `accelerator`, a name that Lightning knows.

    CUDA: bf16 autocast where the GPU has it, TF32, cuDNN's autotuner. CPU: full precision (bf16
    autocast is slower there) and an allocator that keeps freed memory.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
        precision = "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
        settings = f"GPU: channels-last, {precision}, TF32"
        return Machine(torch.cuda.get_device_name(), precision, settings)
    cores = torch.get_num_threads()
    threads = f"{cores} threads" if cores > 1 else "1 thread"
    allocator = "allocator keeps freed memory" if keep_freed_memory() else "the system's allocator"
    settings = f"CPU, {threads}: channels-last, fp32, {allocator}"
    return Machine(f"{processor()}, {threads}", "32-true", settings)


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for this process; return True if glibc accepts.

    A training step frees and allocates the same hundreds of megabytes again and again; where page
    faults are slow, that costs more than the arithmetic.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # Large blocks by mmap would be returned when freed, so there must be none.
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 * 2**20))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
