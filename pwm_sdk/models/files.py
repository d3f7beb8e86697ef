"""Saving a module with the arguments it was built from, in one safetensors file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from pwm_sdk.checkpoints.atomic import write_atomic

VERSION = 1


def constructor_arguments(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the arguments out of `locals()`, as JSON values; call it first in `__init__`."""
    plain = {k: v for k, v in scope.items() if k not in ("self", "__class__")}
    return json.loads(json.dumps(plain, default=list))


class Checkpointed(nn.Module):
    """A module that can be saved and built again; subclasses set `settings`.

    Attributes:
        settings: the constructor's arguments, JSON values.
    """

    settings: dict[str, Any]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights and settings to one file, atomically; nothing in it runs code."""
        about = {
            "format": f"pwm_sdk.{type(self).__name__}",
            "version": str(VERSION),
            "settings": json.dumps(self.settings),
        }
        weights = {k: v.cpu().contiguous() for k, v in self.state_dict().items()}
        write_atomic(path, lambda part: save_file(weights, part, about))

    @classmethod
    def from_checkpoint(cls, path: str | os.PathLike[str]) -> Self:
        """Build a module from a file that `save` wrote, on the CPU.

        Args:
            path: the file.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is damaged, of another class or a newer version, or its weights do
                not fit.
        """
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"path must name a file, got {path}")
        try:
            with safe_open(path, "pt") as file:
                about = file.metadata() or {}
            weights = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"path must be an undamaged safetensors file, got {path}") from error
        expected = f"pwm_sdk.{cls.__name__}"
        if about.get("format") != expected:
            raise ValueError(f"path must hold a {expected}, got {about.get('format')} in {path}")
        if int(about["version"]) > VERSION:
            raise ValueError(f"version must be at most {VERSION}, got {about['version']} in {path}")
        module = cls(**json.loads(about["settings"]))
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"weights must fit the settings, got {path}: {error}") from error
        return module
