"""The MT30, MT80 and single-task benchmarks as data: every task's name, index, sizes and score.

The index of a task is its id in datasets, task embeddings and checkpoints: its position in MT80,
and after these for the other single tasks.
Source: TD-MPC2 (Hansen et al., 2024), task sets `mt30` and `mt80`; sizes as the simulators report.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pwm_sdk.checks import at_least, finite, flag, positive, single, text, whole

__all__ = ["BUILT_IN", "FIRST_OWN_INDEX", "MT30", "MT80", "SINGLE_TASKS", "Task", "TaskSet"]

_META_WORLD_PREFIX = "mw-"
_SIZES = ("observation_dim", "action_dim", "episode_length", "action_repeat")


@dataclass(frozen=True, slots=True)
class Task:
    """One control task.

    Args:
        name: unique name, for example `"walker-run"` or `"mw-reach"`.
        index: id of the task in datasets and embeddings; -1 lets `register_task` choose one.
        suite: `"dmcontrol"`, `"metaworld"`, `"simulator"` (of `make_simulator`), or any word of
            yours for an environment of your own.
        observation_dim: O, before padding.
        action_dim: A, before padding.
        episode_length: agent steps until an episode is truncated.
        action_repeat: simulator steps per agent step; rewards are summed over them.
        reward_scale: largest reward of one agent step (0.0 where it is not known).
        score_scale: return that counts as score 1; `None` where the score is the success of the
            final step.
        custom: whether the task is not part of a stock suite.
        terminates: whether an episode can end before its time, as where a body falls.

    Raises:
        ValueError: if the name is empty, the index below -1 or a size below 1.
    """

    name: str
    index: int
    suite: str
    observation_dim: int
    action_dim: int
    episode_length: int
    action_repeat: int = 2
    reward_scale: float = 2.0
    score_scale: float | None = 1000.0
    custom: bool = False
    terminates: bool = False

    def __post_init__(self) -> None:
        text(name=self.name, suite=self.suite)
        if not self.name:
            raise ValueError(f"name must be a non-empty string, got {self.name!r}")
        for least, field in ((-1, "index"), *((1, size) for size in _SIZES)):
            single(**{field: getattr(self, field)})
            object.__setattr__(self, field, whole(least, **{field: getattr(self, field)}))
        single(reward_scale=self.reward_scale)
        if self.score_scale is not None:
            single(score_scale=self.score_scale)
        finite(reward_scale=self.reward_scale, score_scale=self.score_scale)
        at_least(0.0, reward_scale=self.reward_scale)
        positive(score_scale=self.score_scale)
        flag(custom=self.custom, terminates=self.terminates)

    @classmethod
    def from_env(
        cls, factory: Callable[[], Any], name: str = "", *, suite: str = "own", **details: object
    ) -> Task:
        """Read the sizes of a task from its environment, which is made once and closed.

        Args:
            factory: makes a gymnasium environment.
            name: of the task; the id of the environment if not given.
            suite: see above.
            **details: other fields, in place of what is found: `episode_length` is the
                environment's time limit in inner steps over `action_repeat`, which is 1;
                `reward_scale` and `score_scale` are 1.

        Raises:
            ValueError: if spaces are not vectors, or the environment has no name or time limit
                and none is given.
        """
        if not callable(factory) or (hasattr(factory, "step") and not isinstance(factory, type)):
            raise ValueError(
                f"factory must be a function that makes an environment, got {factory!r}"
            )
        env: Any = factory()
        try:
            spec = getattr(env, "spec", None)
            sizes = [_vector_size(space, env) for space in ("observation_space", "action_space")]
        finally:
            env.close()
        name = name or getattr(spec, "id", "")
        if not name:
            raise ValueError("name must be given for an environment without an id, got none")
        known: dict[str, Any] = {
            "index": -1,
            "action_repeat": 1,
            "reward_scale": 1.0,
            "score_scale": 1.0,
            **details,
        }
        if "episode_length" not in known:
            limit = getattr(spec, "max_episode_steps", None)
            if limit is None:
                raise ValueError(
                    f"episode_length must be given for {name}, which has no time limit"
                )
            known["episode_length"] = -(-limit // whole(1, action_repeat=known["action_repeat"]))
        found = {"name": name, "suite": suite, "observation_dim": sizes[0], "action_dim": sizes[1]}
        return cls(**{**found, **known})

    @property
    def discount(self) -> float:
        """`clip((f - 1) / f, 0.95, 0.995)` with `f = episode_length / 5`.

        Source: TD-MPC2, discount heuristic.
        """
        fraction = self.episode_length / 5
        return min(max((fraction - 1) / fraction, 0.95), 0.995)

    def score(self, episode_return: float, success: float) -> float:
        """Score of an episode, 1 being the best of most tasks.

        Args:
            episode_return: undiscounted sum of the episode's rewards.
            success: success of the episode's final step, 0 or 1.

        Returns:
            `episode_return / score_scale`, or `success` where `score_scale` is `None`.
        """
        single(episode_return=episode_return, success=success)
        finite(episode_return=episode_return, success=success)
        return float(success) if self.score_scale is None else episode_return / self.score_scale


def _vector_size(name: str, env: object) -> int:
    """Return the size of a space of an environment that holds vectors."""
    shape = getattr(getattr(env, name, None), "shape", None)
    if shape is None or len(shape) != 1:
        raise ValueError(f"{name} must be a Box of shape (n,), got {getattr(env, name, None)}")
    return int(shape[0])


class TaskSet:
    """An ordered set of tasks with the sizes that their padded tensors share.

    Args:
        tasks: the tasks, in order.
        observation_dim: padded O; the largest of the tasks if not given.
        action_dim: padded A; the largest of the tasks if not given.

    Raises:
        ValueError: if the set is empty, a name or index occurs twice, or a task is larger than
            the padding.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        *,
        observation_dim: int | None = None,
        action_dim: int | None = None,
    ) -> None:
        if not isinstance(tasks, Iterable) or isinstance(tasks, str):
            raise ValueError(f"tasks must be a sequence of Tasks, got {tasks!r}")
        self._tasks = tuple(tasks)
        if wrong := [task for task in self._tasks if not isinstance(task, Task)]:
            raise ValueError(f"tasks must be Tasks, got {wrong[0]!r}")
        if not self._tasks:
            raise ValueError("tasks must hold at least one task, got none")
        self._by_name = {task.name: task for task in self._tasks}
        self._by_index = {task.index: task for task in self._tasks}
        if not len(self._by_name) == len(self._by_index) == len(self._tasks):
            raise ValueError(f"tasks must have unique names and indices, got {self.names}")
        for name, size in (("observation_dim", observation_dim), ("action_dim", action_dim)):
            if size is not None:
                single(**{name: size})
        observation_dim, action_dim = whole(
            1, observation_dim=observation_dim, action_dim=action_dim
        )
        largest_observation = max(task.observation_dim for task in self._tasks)
        largest_action = max(task.action_dim for task in self._tasks)
        self.observation_dim = largest_observation if observation_dim is None else observation_dim
        self.action_dim = largest_action if action_dim is None else action_dim
        _check_padding("observation_dim", self.observation_dim, largest_observation)
        _check_padding("action_dim", self.action_dim, largest_action)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tasks, in order."""
        return tuple(task.name for task in self._tasks)

    def subset(self, names: Iterable[str | int | Task]) -> TaskSet:
        """The given tasks in the given order, with this set's indices and padding.

        Raises:
            ValueError: if a task is unknown.
        """
        if not isinstance(names, Iterable) or isinstance(names, str):
            raise ValueError(f"names must be a sequence of tasks, got {names!r}")
        tasks = [self[name.name if isinstance(name, Task) else name] for name in names]
        return TaskSet(tasks, observation_dim=self.observation_dim, action_dim=self.action_dim)

    def __getitem__(self, key: str | int) -> Task:
        """The task of a name, or of an index (`Task.index`, not the position in a subset).

        Raises:
            ValueError: if the name (the message has the nearest ones) or the index is unknown.
        """
        if not isinstance(key, str):
            if not hasattr(key, "__index__"):
                raise ValueError(f"key must be a task's name or index, got {key!r}")
            index = operator.index(key)
            if index not in self._by_index:
                raise ValueError(f"task index must be one of this set's, got {index}")
            return self._by_index[index]
        task = self._named(key)
        if task is None:
            raise ValueError(f"task must be a known name, got {key!r}; {_nearest(key, self.names)}")
        return task

    def __contains__(self, key: object) -> bool:
        if isinstance(key, Task):
            return self._by_name.get(key.name) == key
        return self._named(key) is not None if isinstance(key, str) else key in self._by_index

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskSet) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        sizes = f"observation_dim={self.observation_dim}, action_dim={self.action_dim}"
        return f"TaskSet({len(self)} tasks, {sizes})"

    def _named(self, name: str) -> Task | None:
        return self._by_name.get(name) or self._by_name.get(_META_WORLD_PREFIX + name)

    def _identity(self) -> tuple[tuple[Task, ...], int, int]:
        return self._tasks, self.observation_dim, self.action_dim


def _check_padding(name: str, padded: int, largest: int) -> None:
    if padded < largest:
        raise ValueError(f"{name} must be at least {largest} to hold every task, got {padded}")


def _nearest(name: str, names: Sequence[str]) -> str:
    """A hint at the names nearest to an unknown one, found with and without the prefix."""
    aliases = {known.removeprefix(_META_WORLD_PREFIX): known for known in names}
    aliases |= {known: known for known in names}
    matches = difflib.get_close_matches(name, aliases, n=6, cutoff=0.5)
    nearest = list(dict.fromkeys(aliases[match] for match in matches))[:3]
    return f"nearest: {', '.join(nearest)}" if nearest else f"known: {', '.join(names)}"


# name, observation_dim, action_dim; "*" marks the custom tasks, which no stock suite has.
_DM_CONTROL = """
walker-stand 24 6, walker-walk 24 6, walker-run 24 6, cheetah-run 17 6, reacher-easy 6 2,
reacher-hard 6 2, acrobot-swingup 6 1, pendulum-swingup 3 1, cartpole-balance 5 1,
cartpole-balance-sparse 5 1, cartpole-swingup 5 1, cartpole-swingup-sparse 5 1, cup-catch 8 2,
finger-spin 9 2, finger-turn-easy 12 2, finger-turn-hard 12 2, fish-swim 24 5, hopper-stand 15 4,
hopper-hop 15 4, *walker-walk-backwards 24 6, *walker-run-backwards 24 6,
*cheetah-run-backwards 17 6, *cheetah-run-front 17 6, *cheetah-run-back 17 6, *cheetah-jump 17 6,
*hopper-hop-backwards 15 4, *reacher-three-easy 8 3, *reacher-three-hard 8 3, *cup-spin 8 2,
*pendulum-spin 3 1
"""
_META_WORLD = """
assembly, basketball, button-press-topdown, button-press-topdown-wall, button-press,
button-press-wall, coffee-button, coffee-pull, coffee-push, dial-turn, disassemble, door-open,
door-close, drawer-close, drawer-open, faucet-open, faucet-close, hammer, handle-press-side,
handle-press, handle-pull-side, handle-pull, lever-pull, peg-insert-side, peg-unplug-side,
pick-out-of-hole, pick-place, pick-place-wall, plate-slide, plate-slide-side, plate-slide-back,
plate-slide-back-side, push-back, push, push-wall, reach, reach-wall, shelf-place, soccer,
stick-push, stick-pull, sweep-into, sweep, window-open, window-close, bin-picking, box-close,
door-lock, door-unlock, hand-insert
"""


def _dm_control(index: int, entry: str) -> Task:
    name, observation_dim, action_dim = entry.removeprefix("*").split()
    sizes = int(observation_dim), int(action_dim)
    return Task(name, index, "dmcontrol", *sizes, 500, custom=entry.startswith("*"))


def _meta_world(index: int, entry: str) -> Task:
    name = _META_WORLD_PREFIX + entry
    return Task(name, index, "metaworld", 39, 4, 100, reward_scale=20.0, score_scale=None)


def _entries(table: str) -> list[str]:
    return [entry.strip() for entry in table.split(",")]


MT30 = TaskSet(_dm_control(index, entry) for index, entry in enumerate(_entries(_DM_CONTROL)))
MT80 = TaskSet(
    (*MT30, *(_meta_world(index, entry) for index, entry in enumerate(_entries(_META_WORLD), 30)))
)

# The same protocol as MT80's: two control steps per agent step, 500 agent steps.
_DM_CONTROL_SINGLE = """
quadruped-walk 78 12, quadruped-run 78 12, humanoid-stand 67 21, humanoid-walk 67 21,
humanoid-run 67 21, dog-stand 223 38, dog-walk 223 38, dog-trot 223 38, dog-run 223 38
"""
# name, observation_dim, action_dim, episode_length, return of score 1; "!": can end early
_SIMULATED = """
!hopper-forward 15 4 250 250, !humanoid-forward 55 21 250 250, !muscle-humanoid 223 168 250 250,
mass-spring 208 159 120 600, swimmer-1 7 1 250 250, swimmer-2 9 2 250 250, swimmer-5 15 5 250 250,
swimmer-14 33 14 250 250, swimmer-38 81 38 250 250, swimmer-76 157 76 250 250,
swimmer-152 309 152 250 250
"""
FIRST_OWN_INDEX = 200
"""Indices below are the package's; `register_task` counts from here."""


def _simulated(index: int, entry: str) -> Task:
    name, *numbers = entry.removeprefix("!").split()
    observation_dim, action_dim, length, score = map(int, numbers)
    return Task(
        name,
        index,
        "simulator",
        observation_dim,
        action_dim,
        length,
        action_repeat=1,
        reward_scale=0.0,
        score_scale=float(score),
        terminates=entry.startswith("!"),
    )


_OTHERS = (
    *(_dm_control(index, entry) for index, entry in enumerate(_entries(_DM_CONTROL_SINGLE), 80)),
    *(_simulated(index, entry) for index, entry in enumerate(_entries(_SIMULATED), 100)),
)
_SOFT_BODY = _simulated(111, "soft-body 486 160 120 200")  # needs the extra newton
BUILT_IN = TaskSet((*MT80, *_OTHERS, _SOFT_BODY))
"""Every task that `make_env` knows by name."""

SINGLE_TASKS = TaskSet(
    sorted(
        (
            *MT30.subset(["cartpole-swingup", "hopper-stand", "hopper-hop"]),
            *MT30.subset(["walker-stand", "walker-walk", "walker-run"]),
            *_OTHERS,
        ),
        key=operator.attrgetter("action_dim"),
    )
)
"""Locomotion and control one by one, in the order of their action sizes, 1 to 168.

Each is an environment of `make_env` and a differentiable simulator of `make_simulator` with the
same reward.
"""
