"""A progress bar: return, rate and the time that is left."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pwm_sdk.calls import checked, least
from pwm_sdk.metrics import flat_metrics

__all__ = ["ProgressBar"]

LAYOUT = (
    "{desc}{percentage:3.0f}%|{bar:20}| {n:.0f}/{total:.0f} "
    "[{elapsed}<{remaining}, {rate_fmt}{postfix}]"
)
SECONDS = 60.0  # between two lines where the output is no terminal


@checked(total=least(1), step=least(0))
class ProgressBar:
    """A line that shows how far a loop is; a `Logger`, and a hook called with `(step, metrics)`.

    Args:
        total: the step at which the loop ends.
        name: what stands before the bar.
        unit: what is counted, as `update` or `step`; the rate is shown in it.
        show: metrics that are shown, by the last part of their names; of several the mean.
        shown: whether to draw it; None: only on a terminal.
    """

    def __init__(
        self,
        total: int,
        *,
        name: str = "",
        unit: str = "update",
        show: Sequence[str] = ("return",),
        shown: bool | None = None,
    ) -> None:
        self.total, self.name, self.unit, self.show = total, name, unit, tuple(show)
        self.shown = sys.stderr.isatty() if shown is None else shown
        self._bar: Any = None
        self._words: dict[str, float] = {}

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Draw the bar at a step, with the last value of each metric that it shows."""
        if not self.shown:
            return
        if self._bar is None:  # a resumed loop begins here, so its rate does
            self._bar = _begin(self, step)
        numbers = flat_metrics(metrics, only=self.show)
        for word in self.show:
            found = [v for name, v in numbers.items() if name.rpartition("/")[2] == word]
            if found:
                self._words[word] = sum(found) / len(found)
        words = ", ".join(f"{word} {value:.4g}" for word, value in self._words.items())
        self._bar.set_postfix_str(words, refresh=False)
        self._bar.update(min(step, self.total) - self._bar.n)

    def __call__(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Draw the bar, as a hook."""
        self.log(metrics, step)

    def close(self) -> None:
        """Leave the bar as it is and end its line."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
            self._bar = None


def _begin(bar: ProgressBar, step: int) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=bar.total,
        initial=step,
        desc=bar.name,
        unit=f" {bar.unit}s",
        mininterval=0.2 if sys.stderr.isatty() else SECONDS,
        bar_format=LAYOUT,
        smoothing=0.1,
    )
