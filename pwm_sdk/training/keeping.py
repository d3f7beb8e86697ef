"""What of the episodes that were played a replay keeps."""

from __future__ import annotations

from collections.abc import Sequence

from pwm_sdk.data.replay import ReplayBuffer, make_episode
from pwm_sdk.training.collect import Episode


def keep_episodes(
    replay: ReplayBuffer, task: int, scale: float, episodes: Sequence[Episode]
) -> int:
    """Add episodes of a task to a replay.

    Those that terminated are followed by as many absorbing rows as it takes for a model to see ends
    at every step of its windows.

    Args:
        replay: where they go.
        task: its id.
        scale: rewards are divided by it.
        episodes: those that were played.

    Returns:
        The number of episodes that were left out: cut before they were as long as a window.

    Raises:
        ValueError: if none of the task is in the replay then.
    """
    rows = replay.slice_len
    made = [
        make_episode(
            e.observation, e.action, e.reward / scale, task, e.terminated, absorbing=rows - 2
        )
        for e in episodes
    ]
    kept = [episode for episode in made if len(episode) >= rows]
    replay.extend(kept)
    if made and not replay.num_episodes(task):
        raise ValueError(
            f"environment of task {task} must play episodes of at least {rows - 1} steps, as the "
            f"replay's windows have, got {max(map(len, made)) - 1} at most"
        )
    return len(made) - len(kept)
