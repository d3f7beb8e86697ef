"""A module as a file: saved with the arguments it was built from, opened from any known file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pwm_sdk.checkpoints.atomic import write_atomic
from pwm_sdk.checkpoints.foreign import is_pickled
from pwm_sdk.checkpoints.kinds import read_part
from pwm_sdk.checkpoints.layout import Part, PartReader

VERSION = 1


def constructor_arguments(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the arguments out of `locals()`, as JSON values; call it first in `__init__`."""
    plain = {k: v for k, v in scope.items() if k not in ("self", "__class__")}
    return json.loads(json.dumps(plain, default=list))


class Checkpointed(nn.Module):
    """A module that can be saved and built again; subclasses set `settings`.

    Attributes:
        settings: the constructor's arguments, JSON values.
        foreign: what reads such a module from other programs' files, by the program.
    """

    settings: dict[str, Any]
    foreign: ClassVar[Mapping[str, PartReader]] = {}

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
        """Build a module from a file, on the CPU: one that `save` wrote, or a published one.

        Args:
            path: the file. Whose program wrote it is found out from what it holds.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is damaged, would run code, has no such module or is of a newer
                version, or if a weight is missing, unknown or does not fit.
        """
        return cls._build(*cls._read(path), path)

    @classmethod
    def _read(cls, path: str | os.PathLike[str]) -> Part:
        """Read settings and weights from a file of any known kind."""
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"path must name a file, got {path}")
        if is_pickled(path):
            return read_part(path, cls.foreign, cls.__name__)
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
        return Part(json.loads(about["settings"]), weights)

    @classmethod
    def _build(
        cls, settings: dict[str, Any], weights: dict[str, Tensor], path: str | os.PathLike[str]
    ) -> Self:
        """Build a module and give it its weights."""
        module = cls(**settings)
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"weights must fit the settings, got {path}: {error}") from error
        return module
