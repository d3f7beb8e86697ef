"""Growing batches: two rounds on real tasks, resumed to the bit, and learning from nothing."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from pwm_sdk.algorithms.pwm import PWM, PWMConfig
from pwm_sdk.algorithms.return_scales import ReturnScale
from pwm_sdk.data.replay import ReplayBuffer
from pwm_sdk.envs.factory import make_gym, register_task
from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.layers import init_fan_in
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.policies.behaviours import LatentBehaviour, RandomBehaviour
from pwm_sdk.tasks import MT80, Task
from pwm_sdk.training.collect import run_episodes
from pwm_sdk.training.evaluate import summarize
from pwm_sdk.training.online import GrowingBatch, Learner, RoundConfig

TASKS = [MT80["mw-reach"], MT80["cartpole-swingup"]]


def make_learner(task: Task, every: int) -> Learner:
    config = PWMConfig.paper(
        horizon=3, critic_epochs=1, critic_splits=2, target_tau=0.1, average_tau=0.1
    )
    actor = FirstOrderActor.published(
        16, 6, (8,), population=1, action_dims=[task.action_dim], learn_std=False, noise="post_tanh"
    )
    critic = Critic.published(16, (8,), 2, population=1)
    pwm = PWM(None, actor, critic, config, return_scale=ReturnScale(1))
    return Learner(pwm, [task.index], starts=4, every=every)


def make_loop(seed: int, **settings) -> GrowingBatch:
    """One policy for a Meta-World and one for a dm_control task, with one tiny model of both."""
    torch.manual_seed(seed)
    model = WorldModel.published(
        39, 6, num_tasks=80, task_dim=4, latent_dim=16, hidden=(16,), encoder_hidden=(16,),
        action_dims=[task.action_dim for task in MT80], standardize=True,
    )  # fmt: skip
    learners = [make_learner(task, every) for task, every in zip(TASKS, (1, 2), strict=True)]
    for learner in learners:
        learner.pwm.model = learner.pwm.rollout.model = model
    pool = EnvPool([make_gym(task, seed=seed, padded=True) for task in TASKS])
    weights = {task.index: 1.0 for task in TASKS}
    config = RoundConfig(updates=2, first_updates=4, std=(0.6, 0.2), std_share=0.5)
    return GrowingBatch(
        pool,
        model,
        torch.optim.Adam(model.parameters(), lr=1e-3),
        learners,
        ReplayBuffer(1000, 4, 8, task_weights=weights, seed=seed),
        settings.pop("config", config),
        **{"reward_scale": [10.0, 2.0], "lengths": [20, 18], "episodes": [1, 2], "seed": seed}
        | settings,
    )


def test_two_rounds_on_real_tasks() -> None:
    loop = make_loop(0)
    seeds = loop.collect_seed([2, 1])
    assert [[len(e.reward) for e in mine] for mine in seeds] == [[20, 20], [18]]
    assert len(loop.replay) == 21 + 21 + 19
    # Rewards are kept in units of reward_scale, and weighted by one over their variance.
    kept = loop.replay.episodes(TASKS[0].index)[0]["reward"][1:, 0]
    np.testing.assert_allclose(kept, seeds[0][0].reward / 10.0, rtol=1e-6)
    for task in TASKS:
        spread = float(loop.replay.statistics(task.index)["reward_var"])
        expected = min(20.0, 0.03 / (spread + 1e-3))
        assert float(loop.reward_weight[task.index]) == pytest.approx(expected, rel=1e-5)
    mean = loop.replay.statistics(TASKS[0].index)["observation_mean"]
    torch.testing.assert_close(loop.model.observation_mean[TASKS[0].index], mean)

    first, second = loop.run_round(0.0), loop.run_round(0.25)
    assert [first.updates, second.updates] == [4, 6]
    assert [learner.pwm.updates for learner in loop.learners] == [6, 3]  # the second is every=2
    assert [len(loop.replay.episodes(task.index)) for task in TASKS] == [4, 5]
    for report in (first, second):
        assert report.train_return.shape == (2,)
        assert set(report.alarms) == {"predicted", "real", "gap", "value", "value_real"}
        assert all(np.isfinite(column).all() for column in report.alarms.values())
        assert all(np.isfinite(value) for value in report.metrics.values())
        assert report.train_seconds > 0.0
    names = {"model_loss", "model_grad_norm", "policies_0/saturated", "policies_1/return"}
    assert names <= set(second.metrics)
    loop.pool.close()


def test_noise_and_rates_follow_the_progress() -> None:
    config = RoundConfig(
        updates=1, first_updates=1, std=(0.6, 0.2), std_share=0.5, decay_share=0.25,
        decay_floor=0.1,
    )  # fmt: skip
    loop = make_loop(0, config=config)
    loop.collect_seed([1, 1])
    pwm = loop.learners[0].pwm
    # The noise falls from .6 to .2 over the first half, the rates over the last quarter.
    for progress, std, rate in ((0.0, 0.6, 1.0), (0.25, 0.4, 1.0), (0.875, 0.2, 0.5)):
        loop.run_round(progress)
        torch.testing.assert_close(pwm.actor.std, torch.full((1, 1, 6), std))
        torch.testing.assert_close(pwm.average.std, pwm.actor.std)
        assert pwm.actor_optimizer.param_groups[0]["lr"] == pytest.approx(rate * 5e-4)
        assert loop.model_optimizer.param_groups[0]["lr"] == pytest.approx(rate * 1e-3)
    loop.pool.close()


def test_resuming_equals_an_uninterrupted_run() -> None:
    def second_round(loop: GrowingBatch):
        for i in range(2):  # the simulators' own random streams start again in both runs
            loop.pool.reset(i, seed=50 + i)
        return loop.run_round(0.5)

    loop = make_loop(0)
    loop.collect_seed([1, 1])
    loop.run_round(0.0)
    file = io.BytesIO()
    torch.save({"loop": loop.state_dict(), "replay": loop.replay.state_dict()}, file)
    expected = second_round(loop)
    resumed = make_loop(1)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    resumed.load_state_dict(state["loop"])
    resumed.replay.load_state_dict(state["replay"])
    report = second_round(resumed)
    assert report.metrics == expected.metrics
    np.testing.assert_array_equal(report.train_return, expected.train_return)
    for name, column in expected.alarms.items():
        np.testing.assert_array_equal(report.alarms[name], column)
    for name, value in loop.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value)
    for ours, theirs in zip(loop.learners, resumed.learners, strict=True):
        for name, value in ours.pwm.average.state_dict().items():
            assert torch.equal(theirs.pwm.average.state_dict()[name], value)
    loop.pool.close()
    resumed.pool.close()


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="names and test_pool must agree in size"):
        make_loop(0, lengths=[20])


def test_learns_a_task_of_ones_own_from_nothing(point_mass) -> None:
    """From 8 random episodes and 10 rounds, a point mass comes to rest where it should.

    The best possible return is close to the 40 of resting at 0 from the start.
    """
    task = Task("rest-at-zero", -1, "toy", 2, 1, episode_length=40, action_repeat=1)
    task = register_task(task, lambda: point_mass())
    pool = EnvPool([make_gym(task, seed=0)])
    model = init_fan_in(
        WorldModel.published(2, 1, num_tasks=1, task_dim=4, latent_dim=32, hidden=(64, 64),
                   encoder_hidden=(64,), activation="silu", standardize=True)
    )  # fmt: skip
    actor = FirstOrderActor.published(
        32, 1, (64,), population=1, learn_std=False, noise="post_tanh", norm="pre_activation",
        activation="silu", output_gain=0.1,
    )  # fmt: skip
    critic = Critic.published(
        32, (64,), 2, population=1, scale=2.0, norm="pre_activation", activation="silu"
    )
    config = PWMConfig.paper(
        horizon=8, gamma=0.95, actor_lam=0.95, critic_lr=1e-3, critic_epochs=1, critic_splits=2,
        saturation=0.1, target_tau=0.02,
    )  # fmt: skip
    pwm = PWM(model, actor, critic, config, return_scale=ReturnScale(1))
    loop = GrowingBatch(
        pool, model, torch.optim.Adam(model.parameters(), lr=1e-3),
        [Learner(pwm, [0], starts=32)], ReplayBuffer(5000, 5, 32, seed=0),
        RoundConfig(updates=30, first_updates=100, hold=8),
        reward_scale=[1.0], lengths=[40], episodes=[2],
    )  # fmt: skip
    loop.collect_seed([8])
    reports = [loop.run_round(i / 10) for i in range(10)]

    def score(behaviour) -> float:
        test_pool = EnvPool([make_gym(task, seed=1)])
        return summarize(run_episodes(test_pool, behaviour, [10])[0])["return"]

    learned = score(LatentBehaviour(model, [actor], [0]))
    random = score(RandomBehaviour(1, 1, seed=0))
    # Four other seeds: 37, 37, 32 and 36, where random actions bring 11.
    assert learned > 25.0
    assert learned > 2 * random
    # Of 16 imagined steps with at most 1 each, the model promises little that does not come.
    assert float(reports[-1].alarms["gap"][0]) < 4.0
