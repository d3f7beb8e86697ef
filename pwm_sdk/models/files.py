"""A module as a file: saved with the arguments it was built from, opened from any known file."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pwm_sdk.calls import checked
from pwm_sdk.checkpoints.atomic import write_atomic
from pwm_sdk.checkpoints.foreign import is_pickled
from pwm_sdk.checkpoints.kinds import read_part
from pwm_sdk.checkpoints.layout import Part, PartReader

VERSION = 1


def constructor_arguments(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the arguments out of `locals()`, as JSON values; call it first in `__init__`."""
    plain = {k: v for k, v in scope.items() if k not in ("self", "__class__")}
    return json.loads(json.dumps(plain, default=list))


@checked()
class Checkpointed(nn.Module):
    """A module that can be saved and built again; subclasses set `settings`.

    Attributes:
        settings: the constructor's arguments, JSON values.
        foreign: what reads such a module from other programs' files, by the program.
    """

    settings: dict[str, Any]
    foreign: ClassVar[Mapping[str, PartReader]] = {}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights and settings to one file, atomically; nothing in it runs code.

        Raises:
            ValueError: if the settings are not the constructor's arguments, as in a subclass that
                does not set its own, or the weights are of several floating-point types.
        """
        self._check_saved()
        about = {
            "format": f"pwm_sdk.{type(self).__name__}",
            "version": str(VERSION),
            "settings": json.dumps(self.settings),
        }
        weights = {k: v.cpu().contiguous() for k, v in self.state_dict().items()}
        write_atomic(path, lambda part: save_file(weights, part, about))

    def _check_saved(self) -> None:
        """Raise ValueError for what would not come back."""
        known = inspect.signature(type(self)).parameters.values()
        names = {p.name for p in known if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        others = set() if any(p.kind == p.VAR_KEYWORD for p in known) else set(self.settings)
        if wrong := sorted((names - set(self.settings)) | (others - names)):
            raise ValueError(
                f"settings must hold the arguments of {type(self).__name__}, which sets them in "
                f"its constructor; got others in {wrong}"
            )
        if len(kinds := _float_types(self.state_dict())) > 1:
            raise ValueError(f"weights must be of one floating-point type, got {kinds}")

    @classmethod
    def from_checkpoint(cls, path: str | os.PathLike[str]) -> Self:
        """Build a module from a file, on the CPU: one that `save` wrote, or a published one.

        Its weights have the file's floating-point type.

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
        if len(kinds := _float_types(weights)) == 1:
            module.to(*kinds)
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"weights must fit the settings, got {path}: {error}") from error
        return module


def _float_types(weights: Mapping[str, Tensor]) -> list[Any]:
    """Return the floating-point types of weights, each once."""
    return list({value.dtype for value in weights.values() if value.is_floating_point()})
