"""Names of the TensorDict entries and the legend of shapes used throughout the package.

Legend of shapes:

| letter | meaning |
|---|---|
| ``B`` | batch: windows or imagined trajectories side by side |
| ``H`` | horizon: imagined steps, or the steps of a training window |
| ``T`` | time in recorded data, in agent steps |
| ``D`` | size of a latent |
| ``A`` | size of an action, each entry in [-1, 1] |
| ``O`` | size of an observation |
| ``E`` | members of an ensemble |
| ``K`` | tasks |
| ``P`` | policies trained at once (a population) |

Tensors are batch-first at every border, scalars such as a reward carry a trailing 1, and a
population puts ``P`` in front of everything: latents ``[P, B, D]``, a trajectory TensorDict
``[P, B, H]``.
"""

from __future__ import annotations

__all__ = [
    "ACTION",
    "DONE",
    "EPISODE",
    "FIRST",
    "LATENT",
    "LOC",
    "NEXT",
    "OBSERVATION",
    "REAL",
    "REWARD",
    "SCALE",
    "STATE",
    "SUCCESS",
    "TASK",
    "TERMINATED",
    "TRUNCATED",
]

OBSERVATION = "observation"
"""What the environment shows, ``[.., O]`` float32."""

ACTION = "action"
"""What the policy did, ``[.., A]`` float32 in [-1, 1]."""

REWARD = "reward"
"""Reward of one agent step, ``[.., 1]`` float32, in units of the environment."""

REAL = "real"
"""The row, or the step that led to it, is data; rows that only repeat the state in which an episode
terminated are not, ``[.., 1]`` bool."""

TASK = "task"
"""Index of the task in its data set, ``[..]`` int64."""

LATENT = "latent"
"""State of a latent model as policies and values see it, ``[.., D]``."""

STATE = "state"
"""State of a latent model that policies see through its ``features``, ``[.., D]``."""

LOC = "loc"
"""Mean of the policy before the tanh, ``[.., A]``."""

SCALE = "scale"
"""Standard deviation of the policy before the tanh, ``[.., A]``."""

NEXT = "next"
"""Nested TensorDict with what a step led to."""

TERMINATED = "terminated"
"""The step ended in a state of no further reward, ``[.., 1]`` bool."""

TRUNCATED = "truncated"
"""The episode hit its time limit at this step, ``[.., 1]`` bool."""

DONE = "done"
"""``terminated`` or ``truncated``, ``[.., 1]`` bool."""

SUCCESS = "success"
"""The task counts as solved at this step, ``[.., 1]`` bool."""

EPISODE = "episode"
"""Number of the episode a stored row belongs to, ``[..]`` integer."""

FIRST = "first"
"""Nothing was seen before this row, as where an episode begins, ``[.., 1]`` bool."""
