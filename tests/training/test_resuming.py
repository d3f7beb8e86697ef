"""Growing batches of single policies, of one's own tasks, and gone on with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pwm_sdk.algorithms.pwm import PWM, PWMConfig
from pwm_sdk.data.replay import ReplayBuffer
from pwm_sdk.envs.factory import make_gym, register_task
from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.policies.behaviours import LatentBehaviour
from pwm_sdk.tasks import Task
from pwm_sdk.training.evaluate import evaluate
from pwm_sdk.training.online import GrowingBatch, Learner, RoundConfig

CONFIG = PWMConfig.paper(horizon=2, critic_epochs=1, critic_splits=1, average_tau=0.1)


@pytest.fixture
def make_loop(point_mass) -> Callable[..., GrowingBatch]:
    """Make loops of single policies, one for each of N tasks that are the same point mass."""
    task = Task("point", -1, "toy", 2, 1, episode_length=10, action_repeat=1)
    task = register_task(task, lambda: point_mass())

    def make(count: int = 1, num_tasks: int = 0, ids: Any = None, **settings: Any) -> GrowingBatch:
        torch.manual_seed(0)
        model = WorldModel.published(
            2, 1, num_tasks=num_tasks, task_dim=4, latent_dim=16, hidden=(8,), encoder_hidden=(8,),
            num_bins=0, standardize=True,
        )  # fmt: skip
        learners = [
            Learner(
                PWM(
                    model,
                    FirstOrderActor.published(16, 1, (8,), learn_std=False, noise="post_tanh"),
                    Critic.published(16, (8,), 2),
                    CONFIG,
                ),
                [own],
                starts=8,
            )
            for own in ([task.index] if ids is None else ids)
        ]
        return GrowingBatch(
            EnvPool([make_gym(task, seed=i) for i in range(count)]),
            model,
            torch.optim.Adam(model.parameters(), lr=1e-3),
            learners,
            ReplayBuffer(1000, 4, 8, seed=0),
            RoundConfig(updates=1, first_updates=1),
            **{"reward_scale": [1.0] * count, "lengths": [10] * count, "episodes": [1] * count}
            | settings,
        )

    return make


def test_a_single_policy_imagines_from_different_starts(make_loop, monkeypatch) -> None:
    loop = make_loop()
    loop.collect_seed([2])
    pwm, seen = loop.learners[0].pwm, []
    update = pwm.update
    monkeypatch.setattr(pwm, "update", lambda batch: seen.append(batch) or update(batch))
    report = loop.run_round(0.0)
    assert seen[0]["observation"].shape == (8, 2)
    assert len(seen[0]["observation"].unique(dim=0)) > 4
    assert np.isfinite(report.alarms["gap"]).all()
    assert evaluate(make_gym("point", seed=5), pwm.policy(), 1)["episodes"] == 1.0


def test_several_single_policies_share_the_environments_out(make_loop) -> None:
    loop = make_loop(count=2, num_tasks=2, ids=[0, 1])
    loop.collect_seed([1, 1])
    report = loop.run_round(0.0)
    assert report.train_return.shape == report.alarms["gap"].shape == (2,)
    actors = [learner.pwm.actor for learner in loop.learners]
    seen = np.ones((2, 2), np.float32)
    both = LatentBehaviour(loop.model, actors, [0, 1])(seen)
    for i, actor in enumerate(actors):
        alone = LatentBehaviour(loop.model, [actor], [i])(seen[:1])
        np.testing.assert_allclose(both[i], alone[0], rtol=1e-5)


def test_a_resumed_run_sees_new_episodes_and_is_itself_repeatable(make_loop) -> None:
    def resumed(state: dict[str, Any], rows: dict[str, Any]) -> np.ndarray:
        loop = make_loop()
        loop.load_state_dict(state)
        loop.replay.load_state_dict(rows)
        return np.stack([e.observation[0] for e in loop.collect()[0]])

    loop = make_loop(episodes=[3])
    first = np.stack([e.observation[0] for e in loop.collect_seed([3])[0]])
    state, rows = loop.state_dict(), loop.replay.state_dict()
    again = resumed(state, rows)
    assert not np.isin(again[:, 0], first[:, 0]).any()
    np.testing.assert_array_equal(again, resumed(state, rows))
    loop.round += 1
    assert not np.isin(resumed(loop.state_dict(), rows)[:, 0], again[:, 0]).any()


def test_errors_name_the_argument(make_loop) -> None:
    with pytest.raises(ValueError, match=r"reward_scale must be positive, got \[0.0\]"):
        make_loop(reward_scale=[0.0])
    with pytest.raises(ValueError, match=r"episodes must be at least 1, got \[0\]"):
        make_loop(episodes=[0])
    with pytest.raises(ValueError, match=r"ids in 0..0, as the model has num_tasks=1, got \[200"):
        make_loop(num_tasks=1, ids=[200])
    with pytest.raises(ValueError, match=r"num_tasks > 0 for several tasks, got tasks \[0, 1\]"):
        make_loop(count=2, ids=[0, 1])
