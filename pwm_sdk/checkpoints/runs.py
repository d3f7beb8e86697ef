"""Results that say which run they belong to: never taken for those of another one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from pwm_sdk.calls import checked
from pwm_sdk.checkpoints.reading import OtherRunError, read_json
from pwm_sdk.checkpoints.writing import write_json
from pwm_sdk.checks import file_path

__all__ = ["read_result", "run_identity", "write_result"]

_VERSION, _RUN = 1, "run"


@checked()
def run_identity(settings: object, **more: object) -> dict[str, Any]:
    """Return what tells a run from others, to be kept in each of its files.

    Args:
        settings: all that the outcome depends on, as JSON values.
        **more: what tells parts of the run apart, such as a seed.

    Returns:
        The version of this layout, a hash of the settings, and `more`.

    Raises:
        ValueError: if an object differs from others by its address only.
    """
    text = _told("settings", settings)
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    parts = {name: json.loads(_told(name, value)) for name, value in more.items()}
    return {"version": _VERSION, "settings": digest, **parts}


def _told(name: str, value: object) -> str:
    """Write a value as JSON, the same in every process; what is none as a number or text."""

    def other(part: Any) -> Any:
        if hasattr(part, "tolist"):  # of numpy or torch: equal to Python's
            return part.tolist()
        if " at 0x" in (text := str(part)):
            raise ValueError(f"{name} must be of JSON values, got {text}")
        return text

    return json.dumps(value, sort_keys=True, default=other)


@checked()
def write_result(
    path: str | os.PathLike[str], result: Mapping[str, Any], run: Mapping[str, Any]
) -> None:
    """Write a result as JSON, atomically, with the run that it belongs to.

    Args:
        path: the file.
        result: JSON values by name, none of them called `run`.
        run: of `run_identity`.
    """
    if _RUN in result:
        raise ValueError(f"result must have no entry {_RUN!r}, got one for {path}")
    write_json(path, {_RUN: dict(run), **result})


@checked()
def read_result(
    path: str | os.PathLike[str],
    run: Mapping[str, Any],
    *,
    remedy: str = "delete it, or choose another folder",
) -> dict[str, Any] | None:
    """Read a result of a run.

    Args:
        path: the file.
        run: of `run_identity`, what the file must say that it belongs to.
        remedy: what to do about another one, for the message.

    Returns:
        The result, or None where there is no file.

    Raises:
        OtherRunError: if it is of another run, or does not say of which.
        ValueError: if it is damaged; the message names it.
    """
    path = file_path(path=path)
    try:
        result = read_json(path, dict, remedy=remedy)
    except FileNotFoundError:
        return None
    held = result.pop(_RUN, None)
    if not isinstance(held, dict):
        raise OtherRunError(f"{path} must say which run it belongs to, got no word: {remedy}")
    if held != dict(run):
        kind = "settings" if held.get("settings") != run.get("settings") else "version or part"
        raise OtherRunError(
            f"{path} must be of a run with the same {kind}, {dict(run)}, got {held}: {remedy}"
        )
    return result
