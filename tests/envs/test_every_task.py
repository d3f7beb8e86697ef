"""All 80 tasks: TorchRL's contract, and a seed that fixes the episodes to the bit anywhere.

Started as a program, this file prints the digest of each task it is given.
"""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator

import gymnasium
import numpy as np
import pytest

from pwm_sdk.envs.factory import make_env, make_gym
from pwm_sdk.tasks import MT80, Task

STEPS = 12


def is_padded(task: Task) -> bool:
    """Every other task is tested at the sizes of MT80, the others at their own."""
    return task.index % 2 == 0


def digest(env: gymnasium.Env, seed: int | None = None, episodes: int = 2) -> str:
    """Hash of everything that the first steps of consecutive episodes show."""
    seen = hashlib.sha256()
    generator = np.random.default_rng(1)
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed if episode == 0 else None)
        seen.update(observation.tobytes())
        for _ in range(STEPS):
            action = generator.uniform(-1, 1, env.action_space.shape).astype(np.float32)
            observation, reward, *_, info = env.step(action)
            seen.update(observation.tobytes() + np.float64(reward).tobytes())
            seen.update(info["success"].tobytes())
    return seen.hexdigest()


@pytest.fixture(scope="module")
def worker() -> Iterator[Callable[[str], str]]:
    """Digests by name from another process, which plays the tasks while they are tested here."""
    command = [sys.executable, "-W", "error", __file__, *MT80.names]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert process.stdout is not None
    digests: dict[str, str] = {}

    def of(name: str) -> str:
        while name not in digests:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            digests.update([line.split()])
        return digests[name]

    yield of
    process.terminate()
    process.communicate()


@pytest.mark.parametrize("task", MT80, ids=lambda task: task.name)
def test_contract_and_seeds(task: Task, worker: Callable[[str], str]) -> None:
    from torchrl.envs import check_env_specs  # not in the worker, which needs no torch

    env = make_env(task, seed=0, padded=is_padded(task))
    check_env_specs(env)
    sizes = (39, 6) if is_padded(task) else (task.observation_dim, task.action_dim)
    assert (env.observation_spec["observation"].shape[0], env.action_spec.shape[0]) == sizes
    gym = env.gym_env
    first = digest(gym, seed=3)
    np.random.seed(1)  # must not matter
    assert digest(gym) != first  # the stream goes on
    assert digest(gym, seed=3) == first  # the same environment, after other episodes
    assert digest(gym, seed=4, episodes=1) != digest(gym, seed=3, episodes=1)
    assert worker(task.name) == first
    env.close()


@pytest.mark.parametrize("name", ["cheetah-run", "cup-spin", "mw-reach", "mw-basketball"])
def test_another_environment_plays_the_same_episodes(name: str) -> None:
    first = digest(make_gym(name, seed=3))
    np.random.seed(2)
    assert digest(make_gym(name, seed=9), seed=3) == first


@pytest.mark.parametrize("name", ["walker-walk", "pendulum-spin", "mw-reach"])
def test_torchrl_shows_the_episodes_of_gymnasium(name: str) -> None:
    env, reference = make_env(name, seed=3), make_gym(name, seed=3)
    first = env.reset()["observation"]
    np.testing.assert_array_equal(first.numpy(), reference.reset()[0])
    assert (env.reset()["observation"] != first).any()
    env.set_seed(3)
    assert (env.reset()["observation"] == first).all()
    assert (env.reset(seed=3)["observation"] == first).all()


if __name__ == "__main__":
    for given in sys.argv[1:]:
        member = make_gym(given, seed=3, padded=is_padded(MT80[given]))
        print(given, digest(member), flush=True)
