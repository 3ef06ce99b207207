"""How long programs take on a device, how much of its memory they need, and how often the host calls and waits."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# what a profile calls a kernel or a graph of kernels sent to the device, and the host's waits for the device; copies
# to the host wait by a synchronisation of the stream
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchCooperativeKernel", "cuLaunchKernel", "cudaGraphLaunch", "cuGraphLaunch")
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")
COPIES_TO_HOST = ("Memcpy DtoH",)


class Meter:
    """Measures programs on one device: by its own events on a GPU, by the clock on a CPU.

    Args:
        device: `cuda`, `cuda:1`, `cpu`.
    """

    def __init__(self, device: str | torch.device = "cpu"):
        self.device = torch.device(device)
        self.is_cuda = self.device.type == "cuda"

    def synchronize(self) -> None:
        """Waits until the device has done all that it was given."""
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def now(self) -> Any:
        """The moment at which the device has done all that it was given until here; does not wait for it."""
        if not self.is_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def seconds(self, start: Any, end: Any) -> float:
        """Seconds between two moments, after `synchronize`."""
        return start.elapsed_time(end) / 1000 if self.is_cuda else end - start

    def free(self) -> None:
        """Gives memory that nothing uses any more back to the device."""
        if self.is_cuda:
            gc.collect()
            torch.cuda.empty_cache()

    def extra_memory(self, program: Callable[[], object]) -> int | None:
        """The most bytes of the device that the program's tensors took at once beside those before; None on a CPU."""
        if not self.is_cuda:
            program()
            return None
        self.synchronize()
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        program()
        self.synchronize()
        return torch.cuda.max_memory_allocated(self.device) - before

    def calls(self, program: Callable[[], object]) -> dict[str, int] | None:
        """Kernel `launches`, `waits` of the host and `copies_to_host` of one run beyond a program that does nothing.

        The run is profiled, and so slower than others. None on a CPU, where nothing is launched.
        """
        if not self.is_cuda:
            return None
        own = count_calls(self._profile(self.nothing()))
        return {name: number - own[name] for name, number in count_calls(self._profile(program)).items()}

    def _profile(self, program: Callable[[], object]) -> list[str]:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            program()
        return [event.name for event in profile.events()]

    def nothing(self) -> Callable[[], dict[str, float]]:
        """A program that only measures."""
        return timed(self, lambda: None)


def timed(meter: Meter, function: Callable[..., object], *arguments: Any) -> Callable[[], dict[str, float]]:
    """A program for `time_in_turn`: the function without gradients, from an idle device until all is done."""

    def run() -> dict[str, float]:
        meter.synchronize()
        start = meter.now()
        with torch.no_grad():
            function(*arguments)
        end = meter.now()
        meter.synchronize()
        return {"seconds": meter.seconds(start, end)}

    return run


def count_calls(names: Iterable[str]) -> dict[str, int]:
    """How many of a profile's events are launches, waits and copies to the host."""
    counts = {"launches": 0, "waits": 0, "copies_to_host": 0}
    for name in names:
        counts["launches"] += name.startswith(LAUNCHES)
        counts["waits"] += name in WAITS
        counts["copies_to_host"] += name.startswith(COPIES_TO_HOST)
    return counts


def set_precision(precision: str) -> None:
    """Lets products of float32 matrices be rounded to TF32 (`tf32`), or not (`fp32`); else PyTorch's own choice."""
    if precision in ("fp32", "tf32"):
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """The context in which a model computes with this precision; its weights stay float32."""
    dtype = PRECISIONS[precision]
    return contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def check_device(name: str) -> torch.device:
    """The device of this name.

    Raises:
        ValueError: it is not one of a CPU or a GPU that is here.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cuda", "cpu"):
        raise ValueError(f"--device must be cuda, cuda:<number> or cpu, got {name}.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} GPUs" if torch.cuda.is_available() else "no GPU"
        raise ValueError(f"--device {name} asks for a GPU that is not here: PyTorch {torch.__version__} sees {found}.")
    return device


def describe_device(device: torch.device) -> dict[str, Any]:
    """What the device is, beside what `machine` says."""
    if device.type != "cuda":
        return {"device": str(device)}
    properties = torch.cuda.get_device_properties(device)
    return {"device": properties.name, "device_bytes": properties.total_memory, "cuda": torch.version.cuda}
