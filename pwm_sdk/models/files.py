"""A module as a file: saved with the arguments it was built from, opened from any known file."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from pwm_sdk.calls import checked
from pwm_sdk.checkpoints.foreign import is_pickled
from pwm_sdk.checkpoints.kinds import read_part
from pwm_sdk.checkpoints.layout import Part, PartReader
from pwm_sdk.checkpoints.reading import existing_file, read_tensors
from pwm_sdk.checkpoints.writing import write_tensors
from pwm_sdk.states import state_of

VERSION = 2  # 1: before the arguments' defaults were the measured ones
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_DEEPEST = 1000  # layers of a network in a file, or tasks, unless a weight has more


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
        published_settings: the published programs' values of arguments; what other programs' files
            and those of version 1 do not say, they mean so.
        renamed: new names of values in files of version 1, by the argument.
    """

    settings: dict[str, Any]
    foreign: ClassVar[Mapping[str, PartReader]] = {}
    published_settings: ClassVar[Mapping[str, Any]] = {}
    renamed: ClassVar[Mapping[str, Mapping[str, str]]] = {}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights and settings to one file, atomically; nothing in it runs code.

        Raises:
            ValueError: if the settings are not the constructor's arguments, as in a subclass that
                does not set its own, or the weights are of several floating-point types or not
                finite.
            OSError: if the file cannot be written.
        """
        self._check_saved()
        about = {
            "format": f"pwm_sdk.{type(self).__name__}",
            "version": str(VERSION),
            "settings": json.dumps(self.settings),
        }
        write_tensors(path, state_of(self), about)

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
        if wrong := _not_finite(self.state_dict()):
            raise ValueError(f"weights must be finite, got others in {wrong[:8]}")

    @classmethod
    def from_checkpoint(cls, path: str | os.PathLike[str]) -> Self:
        """Build a module from a file, on the CPU: one that `save` wrote, or a published one.

        Its weights have the file's floating-point type.

        Args:
            path: the file. Whose program wrote it is found out from what it holds.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is damaged, would run code, has no such module or is of a newer
                version, or if a weight is missing, unknown, not finite or does not fit. Sizes are
                compared before anything is allocated.
        """
        return cls._build(*cls._read(path), path)

    @classmethod
    def _read(
        cls, path: str | os.PathLike[str], foreign: Mapping[str, PartReader] | None = None
    ) -> Part:
        """Read settings and weights from a file of any known kind; `foreign` as of the class."""
        path = existing_file(path)
        if is_pickled(path):
            part = read_part(path, cls.foreign if foreign is None else foreign, cls.__name__)
            return Part({**cls.published_settings, **part.settings}, part.weights)
        weights, about = read_tensors(path)
        expected = f"pwm_sdk.{cls.__name__}"
        if about.get("format") != expected:
            raise ValueError(f"path must hold a {expected}, got {about.get('format')} in {path}")
        version = about.get("version", "")
        if not (version.isascii() and version.isdigit() and 1 <= int(version[:9]) <= VERSION):
            raise ValueError(
                f"version must be at most {VERSION} and at least 1, got {version!r} in {path}"
            )
        try:
            settings = json.loads(about["settings"])
        except (KeyError, ValueError, RecursionError) as error:
            raise ValueError(f"settings must be undamaged JSON, got others in {path}") from error
        if not isinstance(settings, dict):
            raise ValueError(f"settings must be a dictionary, got others in {path}")
        return Part(settings if int(version) > 1 else upgraded(cls, settings), weights)

    @classmethod
    def _build(
        cls, settings: dict[str, Any], weights: dict[str, Tensor], path: str | os.PathLike[str]
    ) -> Self:
        """Build a module and give it its weights."""
        cls._check_fit(settings, weights, path)
        with torch.device("cpu"):
            module = cls(**settings)
        if len(kinds := _float_types(weights)) == 1:
            module.to(*kinds)
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"weights must fit the settings, got {path}: {error}") from error
        return module

    @classmethod
    def _check_fit(
        cls, settings: dict[str, Any], weights: dict[str, Tensor], path: str | os.PathLike[str]
    ) -> None:
        """Compare weights with what the settings ask for, without memory for either.

        Raises:
            ValueError: if the settings cannot be those of such a module, or a weight is not finite,
                missing, unknown or of another shape or kind.
        """
        largest = max([_DEEPEST, *(size for value in weights.values() for size in value.shape)])
        if deep := [k for k, v in settings.items() if isinstance(v, list) and len(v) > largest]:
            raise ValueError(f"settings must be those of {cls.__name__}, got {deep} in {path}")
        try:
            with torch.device("meta"):
                wanted = cls(**settings).state_dict()
        except Exception as error:  # damaged settings can fail in any way
            if not cls.__module__.startswith("pwm_sdk."):  # a subclass may need real tensors
                return
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(
                f"settings must be those of {cls.__name__}, got others in {path} ({reason})"
            ) from error
        if other := sorted(wanted.keys() ^ weights.keys()):
            raise ValueError(
                f"weights must fit the settings, got {path}: missing or unknown {other[:8]}"
            )
        for name, value in weights.items():
            like = wanted[name]
            if value.is_floating_point() and value.dtype not in _FLOATS:
                raise ValueError(f"weights must be of {_FLOATS}, got {value.dtype} in {path}")
            if value.shape != like.shape or value.is_floating_point() != like.is_floating_point():
                raise ValueError(
                    f"weights must fit the settings, got {path}: {name} must be {like.dtype} "
                    f"{list(like.shape)}, got {value.dtype} {list(value.shape)}"
                )
        if wrong := _not_finite(weights):
            raise ValueError(f"weights must be finite, got others in {wrong[:8]} of {path}")


def upgraded(kind: type[Checkpointed], settings: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of today that those of a file of version 1 stand for."""
    found = {**kind.published_settings, **settings}
    for name, values in kind.renamed.items():
        if isinstance(old := found.get(name), str):
            found[name] = values.get(old, old)
    return found


def _float_types(weights: Mapping[str, Tensor]) -> list[Any]:
    """Return the floating-point types of weights, each once."""
    return list({value.dtype for value in weights.values() if value.is_floating_point()})


def _not_finite(weights: Mapping[str, Tensor]) -> list[str]:
    """Name the weights that hold NaN or infinity."""
    return sorted(name for name, value in weights.items() if not bool(value.isfinite().all()))
