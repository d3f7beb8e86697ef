"""Turns the ``.. math::`` blocks of docstrings into MathML while the reference is built."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object
from latex2mathml.converter import convert

BLOCK = re.compile(r"^\.\. math::[ \n]*(?P<tex>.+?)(?=\n\s*\n|\Z)", re.M | re.S)


class Equations(Extension):
    """Rewrites every docstring once it is read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Replace the equations of one object."""
        if obj.docstring:
            obj.docstring.value = BLOCK.sub(_mathml, obj.docstring.value)


def _mathml(match: re.Match[str]) -> str:
    tex = " ".join(match["tex"].split())
    return convert(tex, display="block")
