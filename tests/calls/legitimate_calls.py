"""Calls that look wrong and are right, or are answered elsewhere, each kind with its reason.

Patterns of callable, argument and label, which stand for the whole of each.
"""

from __future__ import annotations

import re

ELEMENTWISE = (
    r"functional\.(gaussian|losses|moments|planning|scale|twohot|gradients|rewards)\..*|tolerance"
    r"|clip_cotangent|functional\.returns\.(gamma_like|alive_steps)"
)

LEGITIMATE = [
    # numbers
    (".*", ".*", "large", "a number without an upper bound"),
    (".*", ".*", "zero", "0 is among the values: of an index, a seed, sizes that may be missing"),
    (".*", ".*max_norm|limit", "inf", "no gradient is clipped"),
    (r".*(losses|twohot).*", "low|high", "negative", "bins may lie anywhere"),
    (r".*bounded_log_std", "low|high", "negative", "a log"),
    ("SACConfig", "target_entropy", "negative", "an entropy"),
    ("SACConfig|PolicyPrior", "log_std", "of negatives", "a log"),
    (".*tolerance", "bounds", "of negatives", "any interval"),
    # tensors
    (".*", ".*", "nan|inf", "goes through to the result, which is NaN too: reading every tensor "
        "would wait for the device, and the losses' watch names what was not finite"),
    (".*", ".*", "more axes", "leading axes are free"),
    (ELEMENTWISE, ".*", "rank|last axis|meta", "elementwise, or over whatever axes there are"),
    # data
    (".*", "batch|trajectory|episode", "without .*", "an entry that is not read, or not needed"),
    (".*", ".*", "empty|longer", "a sequence of any length"),
]  # fmt: skip


def reason(call: str, argument: str, label: str) -> str | None:
    """Return why a call that looks wrong is legitimate, or None."""
    for pattern in LEGITIMATE:
        names = zip(pattern[:3], (call, argument, label), strict=True)
        if all(re.fullmatch(p, name) for p, name in names):
            return pattern[3]
    return None
