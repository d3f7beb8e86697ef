"""Tasks as simulators: dynamics, rewards and observations are those of the environments."""

from __future__ import annotations

import pickle
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from pwm_sdk.contract.checks import check_latent_model
from pwm_sdk.envs.factory import make_gym
from pwm_sdk.simulators.mass_spring import MassSpring
from pwm_sdk.simulators.suite import make_simulator
from pwm_sdk.tasks import MT80, SINGLE_TASKS

STOCK = [
    *("hopper-stand", "hopper-hop", "walker-stand", "walker-walk", "walker-run"),
    *("quadruped-walk", "quadruped-run", "humanoid-stand", "humanoid-walk", "humanoid-run"),
    *("dog-stand", "dog-walk", "dog-trot", "dog-run"),
]
STARTS = ["cartpole-balance", "cartpole-swingup", "hopper-hop", "walker-run", "quadruped-run"]


def state_of(env, model) -> torch.Tensor:
    """Return the state of a dm_control environment, with its warm start and sensors."""
    physics = env.unwrapped.simulator.physics
    data, state = physics.data, np.zeros((1, model.latent_dim))
    moving = np.concatenate((data.qpos, data.qvel, data.act, data.qacc_warmstart))
    state[0, : len(moving)] = moving
    if model.layout.sensors:  # the quadruped has fewer of them than its environment
        names = [model.mj.sensor(i).name for i in range(model.mj.nsensor)]
        shown = physics.named.data.sensordata
        state[0, len(moving) :] = np.concatenate([shown[name] for name in names])
    return torch.from_numpy(state)


@pytest.mark.parametrize("name", STOCK)
def test_an_episode_is_the_environments(name: str) -> None:
    env = make_gym(name, seed=0)
    model = make_simulator(name, threads=1, dtype=torch.float64)
    observation, _ = env.reset()
    rng, state = np.random.default_rng(0), state_of(env, model)
    for _ in range(10):
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


@cache
def documented() -> dict[str, list[str]]:
    """The rows of the table of sizes in docs/tasks.md, by name."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
    table = text.partition("## Sizes")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows[2:]}


def test_every_task_is_documented_in_order() -> None:
    assert tuple(documented()) == SINGLE_TASKS.names
    sizes = [task.action_dim for task in SINGLE_TASKS]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("name", SINGLE_TASKS.names)
def test_sizes_are_the_tasks_and_the_documented_ones(name: str) -> None:
    task, model = SINGLE_TASKS[name], make_simulator(name, threads=1)
    seconds = (
        model.timestep
        if isinstance(model, MassSpring)
        else model.mj.opt.timestep * model.bridge.substeps * model.action_repeat
    )
    ends = "yes" if task.terminates else "no"
    row = (task.action_dim, task.observation_dim, f"{1000 * seconds:g}", task.episode_length,
           ends, f"{task.score_scale:g}")  # fmt: skip
    assert documented()[name] == [str(cell) for cell in row]
    assert (model.observation_dim, model.action_dim) == (task.observation_dim, task.action_dim)
    assert model.episode_length == task.episode_length
    assert getattr(model, "action_repeat", 1) == task.action_repeat
    assert (getattr(model, "terminated", None) is not None) == task.terminates


@pytest.mark.parametrize("name", [*STARTS, "humanoid-walk", "dog-run"])
def test_starts_are_the_environments(name: str) -> None:
    model = make_simulator(name, threads=1)
    ours = model.features(model.reset(100, torch.Generator().manual_seed(0))).numpy()
    env = make_gym(name, seed=0)
    theirs = np.stack([env.reset()[0] for _ in range(100)])
    spread = theirs.std(0) + 0.02
    common = slice(None, -2 if name.startswith("hopper") else None)  # a foot rarely starts on floor
    assert np.all(np.abs(ours.mean(0) - theirs.mean(0))[common] < 0.5 * spread[common])
    assert np.all(np.abs(ours.std(0) - theirs.std(0))[common] < 0.5 * spread[common])


@pytest.mark.parametrize(
    "name", ["cartpole-swingup", "hopper-forward", "walker-walk", "humanoid-walk", "quadruped-run"]
)
def test_tasks_keep_the_contract(name: str) -> None:
    model = make_simulator(name, threads=1)
    check_latent_model(model, model.reset(2)[:, : model.layout.moving])


@pytest.mark.parametrize("name", [*STOCK[::3], *STARTS[:2], "hopper-forward", "swimmer-3"])
def test_simulators_are_sent_to_other_processes(name: str) -> None:
    model = make_simulator(name, threads=2)
    received = pickle.loads(pickle.dumps(model))
    state = model.reset(2, torch.Generator().manual_seed(0))
    assert torch.equal(received.reset(2, torch.Generator().manual_seed(0)), state)
    given = torch.full((2, model.action_dim), 0.5, requires_grad=True)
    found = [one.step(state, given) for one in (model, received)]
    slopes = [torch.autograd.grad(step[1].sum(), given)[0] for step in found]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert torch.equal(*slopes)
    assert received.mj is received.bridge.model


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


@pytest.mark.parametrize("name", ["hopper-forward", "humanoid-forward", "muscle-humanoid"])
def test_the_episode_ends_when_the_body_falls(name: str) -> None:
    model = make_simulator(name, threads=1)
    state, ended = model.reset(4, torch.Generator().manual_seed(0)), torch.zeros(4, 1)
    for step in range(100):
        state, _, terminated = model.step(state, torch.zeros(4, model.action_dim))
        assert step > 5 or not bool(terminated.any())
        ended = ended + terminated
    assert bool((ended > 0).all())


def test_what_no_simulator_can_be_is_refused() -> None:
    with pytest.raises(ValueError, match="task must have a differentiable reward, got 'cart"):
        make_simulator("cartpole-swingup-sparse")
    with pytest.raises(ValueError, match="known name, got 'humanoid-wak'; nearest: humanoid-walk"):
        make_simulator("humanoid-wak")
    with pytest.raises(ValueError, match="got 'mw-reach': Meta-World moves its hand by mocap"):
        make_simulator("mw-reach")
    with pytest.raises(ValueError, match="got 'reach', which is 'mw-reach': Meta-World moves its"):
        make_simulator("reach")
    with pytest.raises(ValueError, match="joints must be at least 1, got 0"):
        make_simulator("swimmer-0")


@pytest.mark.parametrize("name", [task.name for task in MT80 if task.suite == "dmcontrol"])
def test_known_tasks_without_a_simulator_are_not_called_unknown(name: str) -> None:
    """Those whose rewards are thresholds are refused for it, the others as not written."""
    threshold = ("sparse", "reacher", "finger", "cup-catch", "pendulum-swingup")
    if name in SINGLE_TASKS or name == "cartpole-balance":
        assert make_simulator(name, threads=1).action_dim == MT80[name].action_dim
        return
    flat = any(part in name for part in threshold)
    reason = "have a differentiable reward" if flat else "have a simulator"
    with pytest.raises(ValueError, match=f"task must {reason}, got '{name}'"):
        make_simulator(name)


@pytest.mark.parametrize("missing", ["mujoco", "dm_control"])
def test_a_missing_extra_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf'{missing} must be installed: pip install "pwm-sdk'):
        make_simulator("walker-walk")
