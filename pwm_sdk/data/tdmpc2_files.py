"""Dataset files of TD-MPC2 and PWM (`chunk_<number>.pt`), in and out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from pwm_sdk.calls import checked, least
from pwm_sdk.checkpoints.foreign import open_foreign
from pwm_sdk.checkpoints.locks import one_writer
from pwm_sdk.checkpoints.writing import write_pickled
from pwm_sdk.checks import file_path, whole
from pwm_sdk.data.entries import TaskLike, task_indices
from pwm_sdk.data.folder import EpisodeSource, FolderWriter, source_of
from pwm_sdk.data.row_checks import ROUNDING
from pwm_sdk.keys import ACTION, OBSERVATION, REAL, REWARD, TASK, TERMINATED
from pwm_sdk.tasks import TaskSet

__all__ = ["from_tdmpc2_chunks", "to_tdmpc2_chunks"]

_NAMES = {OBSERVATION: "obs", ACTION: "action", REWARD: "reward", TASK: "task"}
_NO_NUMBERS = (torch.bool, torch.complex32, torch.complex64, torch.complex128)
_BLOCK_ROWS = 1 << 19  # about 100 MB of MT80's rows


@checked(episode_length=least(1))
def from_tdmpc2_chunks(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    tasks: TaskSet,
    *,
    episode_length: int | None = None,
) -> Path:
    """Convert dataset chunks of TD-MPC2 into a folder that `ReplayBuffer.from_dataset` opens.

    Row t of a chunk holds an observation with the action and the reward that led to it, as in
    `make_episode`. Nothing led to row 0: what a chunk has there, NaN, zero or left-over memory, is
    replaced by NaN and never sampled. Episodes come in the order of the numbers in the files'
    names, whatever the order of `paths`. No code from the files runs; they are read piece by piece.

    Args:
        paths: the files `chunk_<number>.pt`, or the folder that holds them.
        out: a folder without data.
        tasks: the `TaskSet` that the chunks were recorded for, such as `MT80`.
        episode_length: agent steps T of each recorded episode; None takes the shortest of the
            tasks, which is what the published chunks are cut to (500 in MT30, 100 in MT80).

    Returns:
        The folder.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if there is no chunk or the same one twice, if a file is truncated or would run
            code, if an entry is missing or of the wrong shape or type, if a task is not one of
            `tasks` or changes within an episode, or if an entry is not finite. The message names
            the file.
    """
    files, episode_length = _sorted_files(paths), whole(1, episode_length=episode_length)
    shortest = min(task.episode_length for task in tasks)
    rows = 1 + (shortest if episode_length is None else episode_length)
    for file in files:  # all of them before hours of copying
        _checked_chunk(file, tasks, rows)
    with FolderWriter(out) as writer:
        for file in files:
            chunk = _checked_chunk(file, tasks, rows)
            step = max(1, _BLOCK_ROWS // rows)
            for first in range(0, len(chunk[TASK]), step):
                block = {name: value[first : first + step] for name, value in chunk.items()}
                _check_values(block, tasks, file, first)
                writer.append(_to_rows(block), torch.full((len(block[TASK]),), rows))
    return writer.path


@checked(episode_length=least(1), chunk_episodes=least(1))
def to_tdmpc2_chunks(
    source: EpisodeSource | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    tasks: Sequence[TaskLike] | None = None,
    episode_length: int | None = None,
    chunk_episodes: int = 10_000,
) -> list[Path]:
    """Write episodes as dataset chunks that TD-MPC2 and PWM read, `out/chunk_<number>.pt`.

    Each is a pickled TensorDict `[E, T+1]` of `obs`, `action`, `reward` and `task`, for programs
    whose tensordict can open what the installed one writes. Action and reward of row 0 are NaN.

    Args:
        source: a replay, or a folder that `ReplayBuffer.from_dataset` opens; observations and
            actions of the size that the reading program expects, which is 39 and 6 for MT80.
        out: the folder; made where it is missing.
        tasks: indices (or `Task`s) to write; None writes all.
        episode_length: agent steps T of what is written: episodes are cut into pieces of so many,
            as the published chunks of MT80 are into 100, and what is left over is not written.
            None writes episodes whole.
        chunk_episodes: episodes, or pieces, of a file at most.

    Returns:
        The files.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if `out` has chunks already or is written to, there is no episode, episodes
            differ in length or are shorter than `episode_length`, or a step of one terminated,
            which chunks cannot say. Nothing is written then.
    """
    chunk_episodes, episode_length = whole(
        1, chunk_episodes=chunk_episodes, episode_length=episode_length
    )
    folder, files = file_path(out=out), []
    pieces = _pieces(source_of(source), tasks, episode_length)
    folder.mkdir(parents=True, exist_ok=True)
    with one_writer(folder, at_once=True):
        if old := sorted(folder.glob("chunk_*.pt")):
            raise ValueError(f"out must be a folder without chunks, got {old[0]}")
        try:
            for number, episodes in enumerate(_batches(pieces, chunk_episodes)):
                files.append(folder / f"chunk_{number}.pt")
                write_pickled(files[-1], _to_chunk(episodes))
        except BaseException:
            for file in files:
                file.unlink(missing_ok=True)
            raise
    if not files:
        raise ValueError("source must hold at least one episode, got none")
    return files


def _sorted_files(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
) -> list[Path]:
    """Return the files in the order of the numbers in their names: 2 before 10."""
    if isinstance(paths, str | os.PathLike):
        folder = file_path(paths=paths)
        files = list(folder.glob("chunk_*.pt")) if folder.is_dir() else [folder]
    else:
        files = [file_path(paths=path) for path in paths]
    if not files:
        raise ValueError(f"paths must name at least one chunk, got {paths}")
    unique = {file.resolve() for file in files}
    if len(unique) < len(files):
        raise ValueError(f"paths must name each chunk once, got {[str(file) for file in files]}")

    def key(file: Path) -> list[tuple[int, str]]:
        return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", file.name)]

    return sorted(files, key=lambda file: (key(file), str(file)))


def _checked_chunk(file: Path, tasks: TaskSet, rows: int) -> dict[str, Tensor]:
    """Open a chunk in our names, once its entries have the right shapes and types."""
    contents = open_foreign(file)
    found = list(contents) if isinstance(contents, Mapping) else [type(contents).__name__]
    if missing := [name for name in _NAMES.values() if name not in found]:
        raise ValueError(f"chunk must have the entries {missing}, got {found} in {file}")
    chunk = {ours: contents[theirs] for ours, theirs in _NAMES.items()}
    for name, value in chunk.items():
        if not isinstance(value, Tensor) or not value.dim():
            raise ValueError(f"{_NAMES[name]} must be a tensor, got {type(value)} in {file}")
    count = len(chunk[OBSERVATION])
    shapes = {
        OBSERVATION: (count, rows, tasks.observation_dim),
        ACTION: (count, rows, tasks.action_dim),
        REWARD: (count, rows),
        TASK: (count, rows),
    }
    for name, value in chunk.items():
        if value.shape != shapes[name] or not count:
            wanted = f"[{count or 'episodes'}, {', '.join(map(str, shapes[name][1:]))}]"
            raise ValueError(
                f"{_NAMES[name]} must be {wanted} for episodes of {rows - 1} steps, "
                f"got {list(value.shape)} in {file}"
            )
        if value.is_floating_point() == (name == TASK) or value.dtype in _NO_NUMBERS:
            kind = "integers" if name == TASK else "floating-point numbers"
            raise ValueError(f"{_NAMES[name]} must hold {kind}, got {value.dtype} in {file}")
    return chunk


def _check_values(block: dict[str, Tensor], tasks: TaskSet, file: Path, first: int) -> None:
    """Raise ValueError unless tasks are known and constant, and all rows but row 0 finite."""
    task = block[TASK]
    if (changes := (task != task[:, :1]).any(dim=1)).any():
        episode = int(changes.nonzero()[0, 0])
        raise ValueError(
            f"task must be one number an episode, got {task[episode].unique().tolist()} "
            f"in episode {first + episode} of {file}"
        )
    known = torch.tensor([member.index for member in tasks])
    if (strange := ~torch.isin(task[:, 0], known)).any():
        episode = int(strange.nonzero()[0, 0])
        raise ValueError(
            f"task must be the index of one of the {len(known)} tasks, got "
            f"{int(task[episode, 0])} in episode {first + episode} of {file}"
        )
    for name in (OBSERVATION, ACTION, REWARD):
        begin = int(name != OBSERVATION)  # nothing led to row 0
        wrong = ~block[name][:, begin:].float().isfinite()  # as they are kept
        if wrong.any():
            episode, row = wrong.nonzero()[0, :2].tolist()
            raise ValueError(
                f"{_NAMES[name]} must be finite, got {block[name][episode, row + begin].tolist()} "
                f"in row {row + begin} of episode {first + episode} of {file}"
            )
    if (wrong := block[ACTION][:, 1:].abs() > 1.0 + ROUNDING).any():
        episode, row = wrong.nonzero()[0, :2].tolist()
        raise ValueError(
            f"action must lie in [-1, 1], got {block[ACTION][episode, row + 1].tolist()} "
            f"in row {row + 1} of episode {first + episode} of {file}"
        )


def _to_rows(block: dict[str, Tensor]) -> TensorDict:
    """Lay out episodes `[E, T+1]` as rows `[E * (T+1)]`, row 0 without action and reward."""
    action, reward = block[ACTION].float().clone(), block[REWARD].float().clone()
    action[:, 0], reward[:, 0] = torch.nan, torch.nan
    rows = {
        OBSERVATION: block[OBSERVATION].float().flatten(0, 1),
        ACTION: action.flatten(0, 1),
        REWARD: reward.reshape(-1, 1),
        TASK: block[TASK].long().flatten(),
        TERMINATED: torch.zeros(reward.numel(), 1, dtype=torch.bool),
    }
    return TensorDict(rows, batch_size=[reward.numel()])


def _pieces(
    source: EpisodeSource, tasks: Sequence[TaskLike] | None, steps: int | None
) -> Iterator[TensorDict]:
    """Yield the episodes of `tasks` in order, or their pieces of `steps` steps."""
    kept = None if tasks is None else set(task_indices(tasks))
    for whole_episode in source.iter_episodes():
        episode: Any = whole_episode[whole_episode[REAL].squeeze(-1)]  # absorbing rows are no data
        if kept is not None and int(episode[TASK][0]) not in kept:
            continue
        length = len(episode) - 1
        size = length if steps is None else steps
        if length < size:
            raise ValueError(
                f"episodes must have at least episode_length {steps} steps, got {length} in one of "
                f"task {int(episode[TASK][0])}"
            )
        for first in range(0, length - size + 1, size):
            yield episode[first : first + size + 1]


def _batches(episodes: Iterable[TensorDict], size: int) -> Iterator[list[TensorDict]]:
    """Yield episodes in order, `size` at a time."""
    batch: list[TensorDict] = []
    for episode in episodes:
        batch.append(episode)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _to_chunk(episodes: list[TensorDict]) -> TensorDict:
    """Stack episodes in TD-MPC2's names."""
    lengths = sorted({len(episode) for episode in episodes})
    if len(lengths) > 1:
        raise ValueError(f"episodes must have one length in rows, got {lengths}")
    rows = {name: torch.stack([e[name] for e in episodes]).cpu() for name in (*_NAMES, TERMINATED)}
    if rows[TERMINATED][:, 1:].any():
        raise ValueError("episodes must run until they are truncated, got a terminated step")
    action, reward = rows[ACTION].clone(), rows[REWARD].squeeze(-1).clone()
    action[:, 0], reward[:, 0] = torch.nan, torch.nan
    chunk = {
        _NAMES[OBSERVATION]: rows[OBSERVATION],
        _NAMES[ACTION]: action,
        _NAMES[REWARD]: reward,
        _NAMES[TASK]: rows[TASK].int(),
    }
    return TensorDict(chunk, batch_size=reward.shape)
