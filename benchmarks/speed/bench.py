"""One configuration measured: its variants in turn, beside the machine's peak, into rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import torch

from speed.rows import Group, Quartiles, Row
from speed.timing import (
    Meter,
    Reader,
    clock,
    gain,
    interleaved,
    large_product,
    operations,
    quartiles,
    repeated,
)


@dataclass
class Variant:
    """One form of the same work.

    Args:
        name: as in the table.
        read: does the work once.
        flop: floating-point operations by part; empty where they are not counted.
        precision: of its products, as for `Execution`, for the peak beside it.
        megabytes: see `Row`.
        difference: see `Row`.
        gradient: see `Row`.
    """

    name: str
    read: Reader
    flop: Mapping[str, float] = field(default_factory=dict)
    precision: str = "fp32"
    megabytes: float | None = None
    difference: float | None = None
    gradient: float | None = None


@dataclass(frozen=True)
class Bench:
    """How all readings are taken.

    Args:
        device: where models run.
        rounds: readings of each variant.
        limit: seconds that a single call may take; longer ones are left out.
    """

    device: torch.device
    rounds: int
    limit: float

    @property
    def seconds(self) -> Meter:
        """The clock."""
        return clock(self.device)

    def measure(
        self, group: Group, size: int, count: int, variants: Sequence[Variant]
    ) -> list[Row]:
        """Read all variants in turn, the baseline first, and a large product of their types.

        Returns:
            Rows part by part; memory, difference and gradient stand in those of the last part.
        """
        products = {
            precision: repeated("", large_product(self.device, precision), self.seconds)
            for precision in {variant.precision: None for variant in variants if variant.flop}
        }
        readers = {variant.name: variant.read for variant in variants}
        readers |= {f"product in {precision}": read for precision, read in products.items()}
        seconds = interleaved(readers, self.seconds, self.rounds)
        peaks = {
            precision: operations(read)[""] / median(seconds[f"product in {precision}"][""])
            for precision, read in products.items()
        }
        rows = []
        parts = list(dict.fromkeys(part for v in variants for part in seconds[v.name]))
        for part in parts:
            compared, last = group.baseline and len(variants) > 1, part == parts[-1]
            base = seconds[variants[0].name].get(part) if compared else None
            for variant in variants:
                if part not in seconds[variant.name]:
                    continue
                own, flop = seconds[variant.name][part], variant.flop.get(part)
                row = Row(
                    group.name,
                    part,
                    size,
                    count,
                    variant.name,
                    ms=Quartiles(*(1e3 * value for value in quartiles(own))),
                    gain=None if base is None else gain(base, own),
                    gflop=flop / 1e9 if flop else None,
                    peak=peaks[variant.precision] / 1e9 if flop else None,
                    megabytes=variant.megabytes if last else None,
                    difference=variant.difference if last else None,
                    gradient=variant.gradient if last else None,
                )
                rows.append(row)
        return rows

    def forecast(self, rows: Sequence[Row], count: int) -> str:
        """Say how long a call of `count` would take, if too long, from rows of fewer; else ""."""
        longest = max(
            (row.ms.median / row.count * count / 1e3 for row in rows if row.ms is not None),
            default=0.0,
        )
        return f"about {longest:.0f} s a call" if longest > self.limit else ""
