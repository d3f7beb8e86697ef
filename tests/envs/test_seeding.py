"""A seed fixes the sequence of episodes to the bit, wherever and after whatever it is played."""

import hashlib
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

from pwm_sdk.envs.factory import make_env, make_gym

NAMES = ["cheetah-run", "finger-turn-easy", "mw-reach", "mw-basketball", "mw-plate-slide-side"]


def digest(env: gymnasium.Env, seed: int | None = None, episodes: int = 2) -> str:
    """Hash of everything that the first steps of consecutive episodes show."""
    seen = hashlib.sha256()
    generator = np.random.default_rng(1)
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed if episode == 0 else None)
        seen.update(observation.tobytes())
        for _ in range(12):
            action = generator.uniform(-1, 1, env.action_space.shape).astype(np.float32)
            observation, reward, *_, info = env.step(action)
            seen.update(observation.tobytes() + np.float64(reward).tobytes())
            seen.update(info["success"].tobytes())
    return seen.hexdigest()


@pytest.mark.parametrize("name", NAMES)
def test_reset_with_a_seed_repeats_the_episodes(name: str) -> None:
    state = np.random.get_state()
    env = make_gym(name, seed=3)
    np.random.seed(0)
    first = digest(env)
    np.random.seed(1)
    assert digest(env) != first  # the stream goes on
    assert digest(env, seed=3) == first  # the same instance, after other episodes
    np.random.seed(2)
    assert digest(make_gym(name, seed=9), seed=3) == first  # another instance
    assert digest(env, seed=4) != first
    np.random.set_state(state)


@pytest.mark.parametrize("name", ["finger-turn-easy", "mw-reach"])
def test_another_process_plays_the_same_episodes(name: str) -> None:
    command = [sys.executable, "-W", "error", __file__, name]
    outcome = subprocess.run(command, capture_output=True, text=True, check=True)
    assert outcome.stdout.strip() == digest(make_gym(name, seed=3))
    assert outcome.stderr == ""


@pytest.mark.parametrize("name", ["walker-walk", "mw-reach"])
def test_torchrl_shows_the_episodes_of_gymnasium(name: str) -> None:
    env, reference = make_env(name, seed=3), make_gym(name, seed=3)
    first = env.reset()["observation"]
    np.testing.assert_array_equal(first.numpy(), reference.reset()[0])
    assert (env.reset()["observation"] != first).any()
    env.set_seed(3)
    assert (env.reset()["observation"] == first).all()
    assert (env.reset(seed=3)["observation"] == first).all()


if __name__ == "__main__":
    print(digest(make_gym(sys.argv[1], seed=3)))
