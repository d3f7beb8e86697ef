"""The machine that a run is on: its name, its cores and how processes are set up on it."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from processes import manager, process_pool
from stopping import end_with_parent

__all__ = [
    "cores",
    "describe",
    "end_with_parent",
    "load",
    "manager",
    "memory",
    "process_pool",
    "processor",
    "settle",
    "slug",
]

SETTINGS = {
    # Small networks gain nothing from a second thread; the second core has its own tasks or its
    # own seed.
    "OMP_NUM_THREADS": "1",
    # Processes of a seed meet on this machine.
    "GLOO_SOCKET_IFNAME": "lo",
    # Unless told otherwise, glibc returns large blocks to the kernel after every operation.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(1 << 26),
    # TorchRL tells of every module that it imports.
    "RL_LOGGING_LEVEL": "WARNING",
}


def settle() -> None:
    """Set the environment of the processes that this one starts, where it is not set yet."""
    os.environ.update({name: os.environ.get(name, value) for name, value in SETTINGS.items()})


def memory(field: str) -> int | None:
    """Bytes that Linux tells of this process, such as VmHWM or RssAnon; None on other systems."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return 1024 * int(fields[field].split()[0])


def cores() -> int:
    """Number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """Name of the processor as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def describe() -> str:
    """The machine in words: cores, processor, GPU, torch."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{_counted()} ({processor()}), {device}, torch {torch.__version__}"


def load() -> str:
    """How busy the machine is: processes that ran or waited over the last minute."""
    return f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"


def slug() -> str:
    """The machine as part of a folder's name, for example `2-cores-amd-epyc`."""
    return re.sub(r"[^a-z0-9]+", "-", f"{_counted()} {processor()}".lower()).strip("-")


def _counted() -> str:
    return f"{cores()} core" + "s" * (cores() != 1)
