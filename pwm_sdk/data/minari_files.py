"""Episodes out to a dataset of Minari, and in from one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase

from pwm_sdk.calls import checked, least
from pwm_sdk.data.entries import TaskLike, copied
from pwm_sdk.data.episode import action_bounds, make_episode, scaled
from pwm_sdk.data.folder import EpisodeSource, source_of
from pwm_sdk.keys import ACTION, OBSERVATION, REAL, REWARD, TERMINATED
from pwm_sdk.tasks import Task

__all__ = ["MinariDataset", "from_minari_episodes", "minari_episodes", "to_minari"]

MinariDataset: TypeAlias = Any
"""A `minari.MinariDataset`, of a package that is imported when it is needed."""


@checked()
def to_minari(
    source: EpisodeSource | str | os.PathLike[str], dataset_id: str, task: Task, **details: object
) -> MinariDataset:
    """Write the episodes of a task as a Minari dataset, in Minari's own folder.

    Args:
        source: a replay, or a folder that `ReplayBuffer.from_dataset` opens.
        dataset_id: Minari's name, such as `"walker/walk/pwm-v0"`.
        task: the `Task`; observations and actions are cut to its sizes.
        **details: what `minari.create_dataset_from_buffers` takes besides, such as `author`,
            `description` or `data_format`.

    Returns:
        The `minari.MinariDataset`.

    Raises:
        ImportError: if minari is not installed.
        FileNotFoundError: if there is no such folder.
        ValueError: if `source` has no episode of the task, or its entries are smaller than the
            task's.
    """
    try:
        import minari
        from minari.data_collector.episode_buffer import EpisodeBuffer
    except ImportError as error:
        raise ImportError('to_minari needs minari: pip install "pwm-sdk[minari]"') from error
    from gymnasium.spaces import Box

    more: dict[str, Any] = details
    episodes = minari_episodes(source_of(source).iter_episodes(task.index), task)
    # Without infos, Minari loads None there, and its own repr of an episode fails on it.
    buffers = [EpisodeBuffer(id=i, infos={}, **episode) for i, episode in enumerate(episodes)]
    if not buffers:
        raise ValueError(f"source must hold episodes of {task.name}, got none")
    return minari.create_dataset_from_buffers(
        dataset_id=dataset_id,
        buffer=buffers,
        observation_space=Box(-np.inf, np.inf, (task.observation_dim,), np.float32),
        action_space=Box(-1.0, 1.0, (task.action_dim,), np.float32),
        **more,
    )


def minari_episodes(
    episodes: Iterable[Mapping[str, Any] | TensorDictBase], task: Task
) -> Iterator[dict[str, Any]]:
    """Yield episodes in the layout of `minari.EpisodeBuffer`.

    Args:
        episodes: TensorDicts `[T+1]`, see `make_episode`; rows that are not real are left out.
        task: the `Task`; observations and actions are cut to its sizes.

    Yields:
        observations `[T+1, O]` and actions `[T, A]` float32, rewards `[T]` float64, terminations
        `[T]` and truncations `[T]` bool; the last step is truncated where it did not terminate.

    Raises:
        ValueError: if an episode's entries are smaller than the task's.
    """
    sizes = {OBSERVATION: task.observation_dim, ACTION: task.action_dim}
    for episode in episodes:
        for name, size in sizes.items():
            if episode[name].shape[-1] < size:
                found = list(episode[name].shape)
                raise ValueError(f"{name} must have {size} entries of {task.name}, got {found}")
        names = (OBSERVATION, ACTION, REWARD, TERMINATED)
        real = _real(episode)
        observation, action, reward, terminated = (episode[name].cpu()[real] for name in names)
        ended: Any = terminated[1:, 0].numpy().copy()
        truncated = np.zeros_like(ended)
        truncated[-1] = not ended[-1]
        yield {
            "observations": observation[:, : task.observation_dim].numpy().copy(),
            "actions": action[1:, : task.action_dim].numpy().copy(),
            "rewards": reward[1:, 0].double().numpy(),
            "terminations": ended,
            "truncations": truncated,
        }


def _real(episode: Mapping[str, Any] | TensorDictBase) -> Any:
    """Return which rows of an episode are data, `[T+1]` bool."""
    marks = episode.get(REAL, None)
    return slice(None) if marks is None else marks.cpu().squeeze(-1)


@checked(absorbing=least(0))
def from_minari_episodes(
    dataset: MinariDataset, *, task: TaskLike = 0, absorbing: int = 0
) -> Iterable[TensorDict]:
    """Yield the episodes of a Minari dataset.

    Args:
        dataset: a `minari.MinariDataset`, or the name of one on this machine. Its observations and
            actions are vectors, and actions are scaled from the bounds of its space to [-1, 1].
        task: index of the task, or a `Task`.
        absorbing: see `make_episode`.

    Yields:
        Episodes as `make_episode` lays them out.

    Raises:
        ImportError: if a name is given and minari is not installed.
        ValueError: if observations or actions are no vectors, or actions have no bounds.
    """
    from gymnasium.spaces import Box

    if isinstance(dataset, str):
        try:
            import minari
        except ModuleNotFoundError as error:
            raise ImportError('minari must be installed: pip install "pwm-sdk[minari]"') from error
        try:
            dataset = minari.load_dataset(dataset)
        except FileNotFoundError as error:
            raise ValueError(
                f"dataset must be one that minari finds on this machine, got {dataset!r}"
            ) from error
    if not hasattr(dataset, "iterate_episodes"):
        raise ValueError(f"dataset must be a minari.MinariDataset or a name, got {dataset!r}")
    space: Any = dataset.action_space
    if not isinstance(space, Box) or not space.is_bounded():
        raise ValueError(f"dataset must have actions of a bounded Box, got {space}")
    bounds = action_bounds((space.low, space.high))
    for episode in dataset.iterate_episodes():
        if not isinstance(episode.observations, np.ndarray):
            raise ValueError(
                f"dataset must have vectors for observations, got {type(episode.observations)}"
            )
        yield make_episode(
            np.asarray(episode.observations, np.float32),
            scaled(copied("actions", episode.actions, torch.float32), bounds),
            np.asarray(episode.rewards, np.float32),
            task,
            np.asarray(episode.terminations, bool),
            absorbing=absorbing,
        )
