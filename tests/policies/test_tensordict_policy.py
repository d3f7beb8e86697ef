"""Policies in TorchRL: rollouts and collectors, alone and batched, with tasks and memory."""

from __future__ import annotations

import pytest
import torch
from small_policies import model, policy
from tensordict import TensorDict
from test_behaviours import Counting
from torchrl.envs import InitTracker, SerialEnv, TransformedEnv

from pwm_sdk import (
    MPPI,
    EnvPool,
    FirstOrderActor,
    ObservationPolicy,
    WorldModel,
    make_env,
    make_gym,
    run_episodes,
)

SMALL = {"latent_dim": 8, "hidden": (8,), "encoder_hidden": (8,), "simnorm_size": 4}


def swinging() -> ObservationPolicy:
    torch.manual_seed(0)
    return ObservationPolicy(FirstOrderActor(8, 1, (8,)), model=WorldModel(3, 1, **SMALL))


def test_a_rollout_takes_the_actions_of_the_pool() -> None:
    acting = swinging()
    rollout = make_env("pendulum-swingup", seed=0).rollout(5, acting.tensordict_module())
    pool = EnvPool([make_gym("pendulum-swingup", seed=0)])
    ((episode,),) = run_episodes(pool, acting.behaviour([None]), [1], lengths=[5])
    torch.testing.assert_close(rollout["action"], torch.from_numpy(episode.action))
    torch.testing.assert_close(rollout["next", "reward"][:, 0], torch.from_numpy(episode.reward))


@pytest.mark.filterwarnings("ignore:.*WeightUpdaterBase:DeprecationWarning")  # its own import's
def test_a_collector_takes_it_as_its_policy() -> None:
    from torchrl.collectors import Collector

    acting = swinging()
    expected = make_env("pendulum-swingup", seed=0).rollout(6, acting.tensordict_module())
    both = SerialEnv(2, lambda: make_env("pendulum-swingup", seed=0))
    for env, lead in ((make_env("pendulum-swingup", seed=0), ()), (both, (2,))):
        collector = Collector(
            env, acting.tensordict_module(), frames_per_batch=6 * max(1, *lead, 1),
            total_frames=6 * max(1, *lead, 1), auto_register_policy_transforms=False,
        )  # fmt: skip
        (batch,) = collector
        collector.shutdown()
        assert batch.shape == (*lead, 6)
        torch.testing.assert_close(batch["action"], expected["action"].expand(*lead, 6, 1))


def test_it_has_the_weights_of_its_networks() -> None:
    acting = swinging()
    module = acting.tensordict_module()
    own = {id(p) for p in (*acting.actor.parameters(), *acting.model.parameters())}
    assert {id(p) for p in module.parameters()} == own
    assert (module.in_keys, module.out_keys) == (["observation"], ["action"])
    assert policy("prior").tensordict_module().in_keys == ["observation", "task"]
    assert policy("one task").tensordict_module().in_keys == ["observation"]


def test_tasks_come_from_the_environment() -> None:
    acting, seen = policy("prior"), torch.randn(4, 3)
    rows = TensorDict({"observation": seen, "task": torch.tensor([0, 1, 1, 0])}, [4])
    found = acting.tensordict_module()(rows)["action"]
    torch.testing.assert_close(found, acting.act(seen, [0, 1, 1, 0]))


def test_a_memory_ends_where_an_episode_begins() -> None:
    module = ObservationPolicy(Counting(), low=-100.0, high=100.0).tensordict_module()
    seen, first = torch.zeros(2, 1), torch.tensor([[False], [False]])
    rows = TensorDict({"observation": seen, "is_init": first}, [2])
    assert module(rows.clone())["action"].flatten().tolist() == [0.0, 0.0]
    assert module(rows.clone())["action"].flatten().tolist() == [100.0, 100.0]
    rows["is_init"][1] = True
    assert module(rows.clone())["action"].flatten().tolist() == [100.0, 0.0]
    with pytest.raises(ValueError, match=r"tensordict must hold 'is_init' .*InitTracker"):
        module(TensorDict({"observation": seen}, [2]))


def test_a_planner_plans_in_a_rollout() -> None:
    made = model()
    kind = {"samples": 8, "elites": 2, "policy_samples": 0, "iterations": 1}
    planner = MPPI(made, torch.tanh, lambda z: z[..., :1], **kind)
    env = TransformedEnv(make_env("pendulum-swingup", seed=0), InitTracker())
    narrow = ObservationPolicy(
        MPPI(WorldModel(3, 1, **SMALL), torch.tanh, lambda z: z[..., :1], **kind)
    )
    rollout = env.rollout(3, narrow.tensordict_module())
    assert rollout["action"].shape == (3, 1)
    assert planner.mean is None


def test_another_number_of_environments_may_begin_together() -> None:
    settings = {"samples": 8, "elites": 2, "policy_samples": 2, "iterations": 1}
    planner = MPPI(WorldModel(3, 1, **SMALL), FirstOrderActor(8, 1, (8,)), lambda z: z[..., :1],
                   **settings)  # fmt: skip
    module = ObservationPolicy(planner).tensordict_module()
    for count in (2, 3, 1):
        first = torch.ones(count, 1, dtype=torch.bool)
        begun = module(
            TensorDict({"observation": torch.zeros(count, 3), "is_init": first}, [count])
        )
        assert begun["action"].shape == (count, 1)
