"""Batched TorchRL environments as pools, and pools as batched TorchRL environments."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from counting import Counting
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.envs import EnvBase, GymWrapper, SerialEnv, StepCounter, TransformedEnv
from torchrl.envs.utils import check_env_specs

from pwm_sdk import EnvPool, check_pool, make_env, make_gym, make_pool

MAKERS = [partial(Counting, 2), partial(Counting, 3, cut=True), partial(Counting, 5)]


def serial() -> SerialEnv:
    return SerialEnv(3, [lambda make=make: GymWrapper(make()) for make in MAKERS])


def test_episodes_are_those_of_single_environments() -> None:
    pool, alone = make_pool(TransformedEnv(serial(), StepCounter())), EnvPool(MAKERS)
    rows, rng = range(3), np.random.default_rng(0)
    found, expected = pool.reset_many(rows), alone.reset_many(rows)
    for _ in range(20):
        starts = [one[0] - two[0] for one, two in zip(found, expected, strict=True)]
        actions = rng.uniform(-1, 1, (3, 1)).astype(np.float32)
        steps, others = pool.step_many(rows, actions), alone.step_many(rows, actions)
        for i, (one, two) in enumerate(zip(steps, others, strict=True)):
            assert one.observation[0] - two.observation[0] == pytest.approx(starts[i], abs=1e-5)
            np.testing.assert_array_equal(one.observation[2], two.observation[2])
            assert (one.reward, one[3:]) == (two.reward, two[3:])
        ended = [i for i in rows if steps[i].terminated or steps[i].truncated]
        fresh = pool.reset_many(ended), alone.reset_many(ended)
        for i, one, two in zip(ended, *fresh, strict=True):
            assert one[2] == two[2] == 0
            found[i], expected[i] = one, two


def test_rows_that_are_not_stepped_lose_their_episode() -> None:
    pool = make_pool(serial())
    pool.reset_many([0, 1, 2])
    for _ in range(7):  # rows 0 and 1 end, unobserved; they would raise past their end
        if pool.step_many([2], np.ones((1, 1)))[0].terminated:
            pool.reset_many([2])
    with pytest.raises(RuntimeError, match="outside an episode of environment 0"):
        pool.step_many([0], np.ones((1, 1)))
    assert pool.reset_many([0])[0][2] == 0
    assert pool.step_many([0], np.ones((1, 1)))[0].observation[2] == 1


def test_seeds_are_of_the_batch() -> None:
    pool = make_pool(serial())
    first = pool.reset_many([0, 1, 2], [1, 2, 3])
    again = pool.reset_many([0, 1, 2], [1, 2, 3])
    assert [one[0] for one in first] == [one[0] for one in again]
    assert first[0][0] != pool.reset_many([0, 1, 2], [4, 2, 3])[0][0]
    with pytest.raises(ValueError, match=r"seeds must be given for all 3 rows .*, got 1"):
        pool.reset_many([0], [5])


class Batched(EnvBase):
    """N points that count their steps, all rows in one tensor; ends after four."""

    def __init__(self, fault: str = "") -> None:
        super().__init__(batch_size=[2])
        self.fault = fault
        self.observation_spec = Composite(observation=Unbounded((2, 1)), shape=(2,))
        self.action_spec = Bounded(-2.0, 2.0, (2, 1), dtype=torch.float64)
        self.reward_spec = Unbounded((2, 1))
        self.given: Any = None
        self.count = torch.zeros(2, 1)

    def _set_seed(self, seed: int | None) -> None:
        pass

    def _reset(self, tensordict: Any = None, **_: Any) -> TensorDict:
        mask = None if tensordict is None else tensordict.get("_reset", None)
        if mask is None or self.fault == "resets all":
            self.count = torch.zeros(2, 1)
        else:
            self.count = self.count.masked_fill(mask, 0.0)
        return TensorDict({"observation": self.count.clone()}, [2])

    def _step(self, tensordict: Any) -> TensorDict:
        self.given, self.count = tensordict["action"], self.count + 1
        seen = self.count.clone()
        if self.fault == "nan":
            seen[1] = torch.nan
        done = {"done": self.count == 4}
        return TensorDict({"observation": seen, "reward": torch.ones(2, 1), **done}, [2])


def test_the_gate_scales_and_names_rows() -> None:
    env = Batched()
    check_pool(make_pool(env), steps=6)
    pool = make_pool(env)
    pool.reset_many([0, 1])
    pool.step_many([0, 1], np.array([[0.5], [-3.0]]))
    assert env.given.tolist() == [[1.0], [-2.0]] and env.given.dtype == torch.float64
    assert not any(pool.step_many([0, 1], np.zeros((2, 1)))[0][2:])
    pool.step_many([0, 1], np.zeros((2, 1)))
    assert pool.step_many([0, 1], np.zeros((2, 1)))[0].terminated  # TorchRL makes it of done
    bad = make_pool(Batched("nan"))
    bad.reset_many([0, 1])
    with pytest.raises(ValueError, match=r"observation of environment 1 \(Batched\) must be fin"):
        bad.step_many([0, 1], np.zeros((2, 1)))


def test_an_environment_that_resets_all_rows_is_found_out() -> None:
    with pytest.raises(ValueError, match="pool must reset rows alone"):
        check_pool(make_pool(Batched("resets all")))


@pytest.mark.parametrize("name", ["mass-spring", "Pendulum-v1"])
def test_a_task_as_a_batched_environment(name: str) -> None:
    env = make_env(name, batch=3, seed=4)
    check_env_specs(env)
    assert env.batch_size == (3,)
    env.set_seed(4)
    first, single = env.reset(), make_env(name, seed=5)
    torch.testing.assert_close(first["observation"][1], single.reset()["observation"])
    assert first["task"].tolist() == [int(single.reset()["task"])] * 3
    rows = env.rollout(130, break_when_any_done=False)
    assert rows.shape == (3, 130)
    again = env.reset(first.clone().set("_reset", torch.tensor([[True], [False], [False]])))
    assert not torch.equal(again["observation"][0], first["observation"][0])
    env.close()


def test_rows_start_alone_in_a_rollout() -> None:
    env = make_env("hopper-forward", batch=2, seed=0)
    torch.manual_seed(0)
    rows = env.rollout(80, break_when_any_done=False)
    done, seen, after = rows["next", "done"], rows["observation"], rows["next", "observation"]
    assert done.any() and not done.all(1).any()
    for i in range(2):
        for t in range(79):
            assert torch.equal(seen[i, t + 1], after[i, t]) is not bool(done[i, t])


def test_padded_and_on_a_device() -> None:
    env = make_env("pendulum-swingup", batch=2, seed=1, padded=True)
    check_env_specs(env)
    single = make_gym("pendulum-swingup", seed=2, padded=True)
    env.set_seed(1)
    np.testing.assert_array_equal(env.reset()["observation"][1].numpy(), single.reset()[0])
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        make_env("pendulum-swingup", batch=0)
    with pytest.raises(ValueError, match=r"batch size \[N\], got \[2, 2\]"):
        make_pool(SerialEnv(2, lambda: make_env("pendulum-swingup", batch=2)))
