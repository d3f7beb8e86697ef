"""Streams of transitions, by hand on a point mass, and what learns from them."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from torchrl.envs import GymWrapper

from pwm_sdk.algorithms.ppo import PPO, PPOConfig
from pwm_sdk.algorithms.sac import SAC, SACConfig
from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.models.normalizers import RunningMeanStd
from pwm_sdk.policies.behaviours import RandomBehaviour
from pwm_sdk.policies.policy import ObservationPolicy
from pwm_sdk.training.collect import run_episodes
from pwm_sdk.training.evaluate import evaluate, summarize
from pwm_sdk.training.loop import fit
from pwm_sdk.training.transitions import transitions


def push(observation: torch.Tensor) -> torch.Tensor:
    return torch.ones(*observation.shape[:-1], 1)


def test_steps_and_ends_by_hand(point_mass) -> None:
    # Pushed from rest at 0, v is .25, .475, .6775 and p .0625, .18125, .350625: beyond the wall of
    # .3 at the third step. The second environment is cut after two steps.
    pool = EnvPool([point_mass(start=0.0, wall=0.3), point_mass(start=0.0, length=2)])
    pushing = ObservationPolicy(push).behaviour([None, None])
    first, second = islice(transitions(pool, pushing, steps=3), 2)
    assert first.shape == (2, 3)
    p = first["next", "observation"][..., 0]
    torch.testing.assert_close(
        p, torch.tensor([[0.0625, 0.18125, 0.350625], [0.0625, 0.18125, 0.0625]])
    )
    assert first["next", "terminated"].squeeze(-1).tolist() == [[False, False, True], [False] * 3]
    assert first["next", "truncated"].squeeze(-1).tolist() == [[False] * 3, [False, True, False]]
    assert first["next", "done"].squeeze(-1).tolist() == [
        [False, False, True],
        [False, True, False],
    ]
    # After an end the next step starts at rest; otherwise where the last one led.
    before = first["observation"][..., 0]
    torch.testing.assert_close(before, torch.tensor([[0.0, 0.0625, 0.18125], [0.0, 0.0625, 0.0]]))
    torch.testing.assert_close(second["observation"][:, 0, 0], torch.tensor([0.0, 0.0625]))
    reward = first["next", "reward"]
    assert reward.shape == (2, 3, 1) and reward.dtype == torch.float32
    torch.testing.assert_close(reward[0, 0, 0], torch.tensor(np.exp(-4 * 0.0625**2)).float())


def test_a_behaviour_may_hand_out_one_buffer_again_and_again(point_mass) -> None:
    class Ramp:
        """Counts up in float64, in place."""

        def __init__(self) -> None:
            self.action = np.zeros((1, 1))

        def start(self, index: int) -> None:
            """Do nothing."""

        def __call__(self, observation: np.ndarray) -> np.ndarray:
            self.action += 0.25
            return self.action

    (batch,) = islice(transitions(EnvPool([point_mass()]), Ramp(), 3), 1)
    assert batch["action"].flatten().tolist() == [0.25, 0.5, 0.75]
    assert batch["action"].dtype == torch.float32
    ((episode,),) = run_episodes(EnvPool([point_mass(length=3)]), Ramp(), [1])
    assert episode.action.flatten().tolist() == [0.25, 0.5, 0.75]


def test_no_steps_are_refused(point_mass) -> None:
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        next(transitions(EnvPool([point_mass()]), ObservationPolicy(push).behaviour([None]), 0))


def random_score(env) -> float:
    return summarize(run_episodes(EnvPool([env]), RandomBehaviour(1, 1, seed=0), [20])[0])["return"]


def test_sac_learns_the_point_mass(point_mass) -> None:
    config = SACConfig(gamma=0.95, lr=1e-3, batch_size=64, hidden=(64, 64), random_steps=400)
    sac = SAC(2, 1, config)
    pool = EnvPool([point_mass()])
    stream = transitions(pool, sac.explorer().behaviour([None]), steps=20)
    fit(sac, sac.replayed(islice(stream, 80)), None)
    learned = evaluate(point_mass(), sac.policy(), episodes=20)["return"]
    # 38 with three other seeds, where random actions bring 11.
    assert learned > 30.0
    assert learned > 2 * random_score(point_mass())


def test_ppo_learns_the_point_mass(point_mass) -> None:
    config = PPOConfig(gamma=0.95, lr=1e-3, hidden=(32, 32))
    ppo = PPO(2, 1, config, observations=RunningMeanStd((2,)), returns=RunningMeanStd((1,)))
    pool = EnvPool([point_mass() for _ in range(8)])
    data = islice(transitions(pool, ppo.explorer().behaviour([None] * 8), steps=80), 20)
    fit(ppo, data, 20)
    learned = evaluate(point_mass(), ppo.policy(), episodes=20)["return"]
    # 38 with three other seeds.
    assert learned > 30.0
    assert learned > 2 * random_score(point_mass())


@pytest.mark.filterwarnings("ignore:.*WeightUpdaterBase:DeprecationWarning")  # its own import's
def test_a_torchrl_collector_feeds_the_same_agents(point_mass) -> None:
    from torchrl.collectors import Collector

    sac = SAC(2, 1, SACConfig(hidden=(16,), batch_size=8, random_steps=0))
    ppo = PPO(2, 1, PPOConfig(hidden=(16,), epochs=1))

    def collected():
        env = GymWrapper(point_mass())
        policy = sac.loss.actor_network
        return Collector(
            env, policy, frames_per_batch=20, total_frames=40, auto_register_policy_transforms=False
        )

    assert np.isfinite(fit(sac, sac.replayed(collected()), None)["value_loss"])
    metrics = fit(ppo, (batch.unsqueeze(0) for batch in collected()), None)
    assert np.isfinite(metrics["value_loss"])
    assert (sac.steps, ppo.steps) == (40, 40)
