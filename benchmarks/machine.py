"""The machine that a run is on: its name, its cores and how busy it is."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from pwm_sdk.runs import cores

__all__ = ["cores", "describe", "load", "memory", "processor", "slug"]


def memory(field: str) -> int | None:
    """Bytes that Linux tells of this process, such as VmHWM or RssAnon; None on other systems."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return 1024 * int(fields[field].split()[0])


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
