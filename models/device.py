"""Where a network trains, in which precision, and what is said where there is no room."""

import os
import platform
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch.backends import cudnn

from data.errors import InputError

Precision = Literal["auto", "float32", "bfloat16"]
Devices = Literal["auto", "cpu", "cuda", "mps"] | int
# What a failure of memory is called: by torch's allocators and the driver, by that of the CPU, by cuBLAS and cuDNN.
FULL = ("out of memory", "can't allocate memory", "status_alloc_failed", "allocation_failed")


def choose_device(wanted: Devices) -> torch.device:
    """One device, also of several that were asked for. Raises `InputError` for one that is not there."""
    there = available()
    if isinstance(wanted, int) and wanted > 1:  # processes can only train together on these
        return torch.device("cuda" if "cuda" in there else "cpu")
    if wanted == "auto" or isinstance(wanted, int):
        return torch.device(there[0])
    if wanted not in there:
        raise InputError(f"train.devices {wanted} is not to be had here; use one of auto, {', '.join(there)}")
    return torch.device(wanted)


def training_device(wanted: Devices) -> torch.device:
    """The device chosen for a training, made ready for it. Raises as `choose_device`.

    Batches have few sizes, so cuDNN may time its algorithms once for each and keep the fastest. Which one wins may
    differ from process to process, and with it the last bits: so not where bits were asked for.
    """
    device = choose_device(wanted)
    if device.type == "cuda" and not (torch.are_deterministic_algorithms_enabled() or cudnn.deterministic):
        cudnn.benchmark = True
    return device


def require_devices(wanted: Devices) -> None:
    """Raises `InputError` for one that is not there, or for more than there are: GPUs, or where there is none, cores to
    train on."""
    if not isinstance(wanted, int):
        choose_device(wanted)
        return
    gpus = torch.cuda.device_count()
    there, what = (gpus, "GPUs") if gpus else (os.cpu_count() or 1, "processor cores")
    if wanted > there:
        raise InputError(f"train.devices {wanted} asks for more than the {there} {what} here; use at most {there}")


def available() -> list[str]:
    """Best first."""
    there = ["cpu"]
    if torch.backends.mps.is_available():
        there.insert(0, "mps")
    if torch.cuda.is_available():
        there.insert(0, "cuda")
    return there


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """For the forward pass. auto: bfloat16 where the processor multiplies in it; weights stay float32."""
    if precision == "bfloat16" or (precision == "auto" and multiplies_bfloat16(device)):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def multiplies_bfloat16(device: torch.device) -> bool:
    """GPUs since Ampere, and CPUs with AVX512-BF16 or AMX."""
    match device.type:
        case "cuda":
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
        case "cpu" if hasattr(torch.cpu, "get_capabilities"):  # torch 2.11 has not
            able = torch.cpu.get_capabilities()
            return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
        case _:
            return False


def is_full(error: RuntimeError) -> bool:
    """Whether it says that memory is short. Only torch's own allocator of a GPU says so by the kind of the error."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error).lower() for words in FULL)


def seed(device: torch.device, value: int) -> None:
    """Seed torch's generator of this device alone; `torch.manual_seed` takes longer, for those that are not there."""
    match device.type:
        case "cuda":
            torch.cuda.manual_seed(value)
        case "mps":
            torch.mps.manual_seed(value)
        case _:
            torch.default_generator.manual_seed(value)


def describe(device: torch.device) -> str:
    """For the record: "NVIDIA H200", "cpu (x86_64, 2 threads)"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu ({platform.machine()}, {threads} thread{'s' if threads > 1 else ''})"
    return device.type
