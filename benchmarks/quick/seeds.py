"""Seeds of one run for all that draws in it: no two of them may start one and the same stream."""

from __future__ import annotations

import numpy as np

USES = ("replay", "starts", "noise", "planner")


def seed_for(use: str, seed: int) -> int:
    """Return the seed of one use in a run, whose weights are drawn from `torch.manual_seed(seed)`.

    Args:
        use: one of `USES`.
        seed: of the run.
    """
    children = np.random.SeedSequence(seed).spawn(len(USES))
    return int(children[USES.index(use)].generate_state(1)[0])
