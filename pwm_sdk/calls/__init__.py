"""Calls that are checked against their annotations: what does not fit is refused by its name.

One rule for every public function and class: `@checked()` reads the annotations, and whatever they
promise is looked at before the body runs. Only what costs no wait for a device is read: types,
shapes, dtypes, devices, numbers of Python. A function that is being compiled, or called from inside
a checked call, is not checked, as its caller has been.
"""

from pwm_sdk.calls.checked import checked, outside
from pwm_sdk.calls.rules import (
    TRAJECTORY,
    WINDOWS,
    acts,
    anywhere,
    array,
    each,
    finite,
    finite_alone,
    floating,
    has,
    holds,
    least,
    looked_up,
    may_be_infinite,
    numbers_only,
    one_of,
    or_nothing,
    some,
)
from pwm_sdk.calls.shapes import shaped

__all__ = [
    "TRAJECTORY",
    "WINDOWS",
    "acts",
    "anywhere",
    "array",
    "checked",
    "each",
    "finite",
    "finite_alone",
    "floating",
    "has",
    "holds",
    "least",
    "looked_up",
    "may_be_infinite",
    "numbers_only",
    "one_of",
    "or_nothing",
    "outside",
    "shaped",
    "some",
]
