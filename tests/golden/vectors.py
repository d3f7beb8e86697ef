"""The golden vectors: numbers that the published programs printed, as tensors by name."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def path(name: str) -> Path:
    """The file `name` in this folder, or in the one that `PWM_SDK_GOLDEN` names; must exist."""
    folder = Path(os.environ.get("PWM_SDK_GOLDEN") or Path(__file__).parent)
    file = folder / name
    if not file.is_file():
        raise FileNotFoundError(f"golden file {name} must be in {folder}, found none")
    return file


def load(name: str) -> dict[str, Tensor]:
    """Numeric arrays of the archive `name` by key; arrays of text are left out."""
    with np.load(path(name), allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    return {key: torch.from_numpy(a) for key, a in arrays.items() if a.dtype.kind in "biuf"}


def text(name: str) -> dict[str, np.ndarray]:
    """Arrays of text of the archive `name` by key."""
    with np.load(path(name), allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files if archive[key].dtype.kind in "US"}
