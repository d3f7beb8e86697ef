"""Tasks as simulators: dynamics, rewards and observations are those of the environments."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pwm_sdk.envs.factory import make_gym
from pwm_sdk.simulators.suite import make_simulator
from pwm_sdk.tasks import MT80
from pwm_sdk.testing import check_latent_model

STOCK = ["hopper-stand", "hopper-hop", "walker-stand", "walker-walk", "walker-run"]
ALL = ["cartpole-balance", "cartpole-swingup", *STOCK]


def state_of(env, model) -> torch.Tensor:
    """Return the state of a dm_control environment, with its warm start and sensors."""
    data = env.unwrapped.simulator.physics.data
    parts = (data.qpos, data.qvel, data.act, data.qacc_warmstart)
    state = np.zeros((1, model.latent_dim))
    moving = np.concatenate(parts)
    state[0, : len(moving)] = moving
    if model.layout.sensors:
        state[0, len(moving) :] = data.sensordata
    return torch.from_numpy(state)


@pytest.mark.parametrize("name", STOCK)
def test_an_episode_is_the_environments(name: str) -> None:
    env, model = make_gym(name, seed=0), make_simulator(name, threads=1, dtype=torch.float64)
    observation, _ = env.reset()
    rng, state = np.random.default_rng(0), state_of(env, model)
    for _ in range(20):
        np.testing.assert_allclose(model.features(state)[0], observation, rtol=1e-5, atol=1e-5)
        action = rng.uniform(-1, 1, model.action_dim).astype(np.float32)
        observation, reward, *_ = env.step(action)
        state, mine = model.step(state, torch.from_numpy(action).unsqueeze(0))
        assert float(mine) == pytest.approx(reward, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", ["cartpole-balance", "cartpole-swingup"])
def test_the_cartpole_differs_by_its_integrator_only(name: str) -> None:
    """The environment keeps RK4: one agent step differs by 1e-3 at most, rewards are the same."""
    env, model = make_gym(name, seed=0), make_simulator(name, threads=1, dtype=torch.float64)
    observation, _ = env.reset()
    rng = np.random.default_rng(0)
    for _ in range(20):
        state = state_of(env, model)
        np.testing.assert_allclose(model.features(state)[0], observation, rtol=1e-5, atol=1e-5)
        action = rng.uniform(-1, 1, 1).astype(np.float32)
        observation, reward, *_ = env.step(action)
        following, mine = model.step(state, torch.from_numpy(action).unsqueeze(0))
        assert float(mine) == pytest.approx(reward, abs=1e-3)
        np.testing.assert_allclose(model.features(following)[0], observation, atol=3e-3)


@pytest.mark.parametrize("name", ALL)
def test_sizes_and_starts_are_the_tasks(name: str) -> None:
    task, model = MT80[name], make_simulator(name, threads=1)
    assert (model.observation_dim, model.action_dim) == (task.observation_dim, task.action_dim)
    assert (model.episode_length, model.action_repeat) == (task.episode_length, task.action_repeat)
    ours = model.features(model.reset(300, torch.Generator().manual_seed(0))).numpy()
    env = make_gym(name, seed=0)
    theirs = np.stack([env.reset()[0] for _ in range(300)])
    spread = theirs.std(0) + 0.02
    common = slice(None, -2 if name.startswith("hopper") else None)  # a foot rarely starts on floor
    assert np.all(np.abs(ours.mean(0) - theirs.mean(0))[common] < 0.35 * spread[common])
    assert np.all(np.abs(ours.std(0) - theirs.std(0))[common] < 0.35 * spread[common])


@pytest.mark.parametrize("name", ["cartpole-swingup", "hopper-forward", "walker-walk"])
def test_tasks_keep_the_contract(name: str) -> None:
    model = make_simulator(name, threads=1)
    check_latent_model(model, model.reset(2)[:, : model.layout.moving])


def test_a_margin_gives_the_hoppers_height_a_gradient() -> None:
    slopes = []
    for margin in (0.0, 0.5):
        model = make_simulator("hopper-stand", margin=margin, threads=1)
        lying = torch.zeros(1, 14, dtype=torch.float64)
        lying[:, 1], lying[:, 2] = -0.9, 1.57
        lying = model.encode(lying).requires_grad_()
        _, reward = model.step(lying, torch.zeros(1, 4))
        slopes.append(float(torch.autograd.grad(reward, lying)[0].norm()))
    assert slopes[0] == 0.0
    assert slopes[1] > 1e-3


def test_the_hopper_forward_ends_when_it_falls() -> None:
    model = make_simulator("hopper-forward", threads=1)
    state, ended = model.reset(4, torch.Generator().manual_seed(0)), torch.zeros(4, 1)
    for step in range(100):
        state, _, terminated = model.step(state, torch.zeros(4, 4))
        assert step > 5 or not bool(terminated.any())
        ended = ended + terminated
    assert bool((ended > 0).all())


def test_flat_and_unknown_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="task must have a differentiable reward, got 'cart"):
        make_simulator("cartpole-swingup-sparse")
    with pytest.raises(ValueError, match="task must be a known name, got 'fish'"):
        make_simulator("fish")
