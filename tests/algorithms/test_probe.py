"""SHAC's door: graphs that are cut, and rewards that are steps or flat."""

from __future__ import annotations

from collections.abc import Callable

import mujoco
import pytest
import torch
from torch import Tensor

from pwm_sdk.algorithms.probe import ROWS, STEPS
from pwm_sdk.algorithms.shac import SHAC
from pwm_sdk.algorithms.shac_config import SHACConfig
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.simulators.mujoco import MuJoCoModel
from pwm_sdk.simulators.suite import make_simulator

Change = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
CART = """
<mujoco>
  <worldbody>
    <body name="cart">
      <joint name="slide" type="slide" axis="1 0 0"/>
      <geom size="0.1" mass="1" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
  <actuator><motor joint="slide" ctrllimited="true" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


class Point:
    """z' = z + a, reward -z'^2, changed by `change`; counts its starts and steps."""

    latent_dim = action_dim = observation_dim = 1
    episode_length = 10

    def __init__(self, change: Change = lambda following, reward: (following, reward)) -> None:
        self.change, self.starts, self.steps = change, 0, 0

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return observation

    def features(self, latent: Tensor) -> Tensor:
        return latent

    def reset(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        self.starts += count
        return torch.randn(count, 1, generator=generator)

    def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
        self.steps += len(latent)
        following = latent + action
        return self.change(following, -following.square())


def open_door(model, environments: int = 6) -> SHAC:
    size = model.observation_dim
    actor, critic = (
        FirstOrderActor.published(size, model.action_dim, (4,)),
        Critic.published(size, (4,), 1),
    )
    generator = torch.Generator().manual_seed(0)
    config = SHACConfig(environments=environments, horizon=2)
    return SHAC(model, actor, critic, config, generator=generator)


def test_a_good_model_takes_one_step_and_no_draw() -> None:
    model, expected = Point(), torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    shac = open_door(model)
    assert (model.starts, model.steps) == (6, 1)
    assert torch.equal(shac.streams.state, torch.randn(6, 1, generator=expected))
    assert torch.equal(shac.generator.get_state(), expected.get_state())


def test_a_step_that_cuts_the_graph_is_named() -> None:
    with pytest.raises(ValueError, match="next latent must be differentiable, got a tensor with"):
        open_door(Point(lambda following, reward: (following.detach(), reward.detach())))
    # The reward depends on the action, so that without the check the actor would learn greedily.
    with pytest.raises(ValueError, match="next latent must be differentiable, got a tensor with"):
        open_door(Point(lambda following, reward: (following.detach(), reward)))
    with pytest.raises(ValueError, match="reward must be differentiable, got a tensor without"):
        open_door(Point(lambda following, reward: (following, reward.detach())))

    class NoAction(Point):
        def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
            return super().step(latent, action.detach())

    with pytest.raises(ValueError, match="next latent must depend differentiably on action"):
        open_door(NoAction())


def test_a_reward_of_steps_is_refused_and_a_flat_one_is_told() -> None:
    steps = Point(lambda following, reward: (following, (following > 0) + 0.0 * following))
    with pytest.raises(ValueError, match="reward must have a slope, got steps and the gradient 0"):
        open_door(steps)
    flat = Point(lambda following, reward: (following, 0.0 * following))
    with pytest.warns(UserWarning, match="reward should have a slope, got 0 and the gradient 0"):
        open_door(flat)
    assert flat.steps == ROWS * STEPS
    late = Point(lambda following, reward: (following, (-following - 0.5).relu()))
    open_door(late)  # flat at the first start, not at all of them
    assert 1 < late.steps < ROWS * STEPS


def test_steps_in_the_reward_of_a_mujoco_model_are_refused() -> None:
    model = MuJoCoModel(CART, lambda before, action, after: (after.qpos > 0) + 0.0 * after.qpos)
    assert model.mj.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER
    with pytest.raises(ValueError, match="reward must have a slope"):
        open_door(model)


def test_the_hopper_that_lies_is_told_to_take_a_margin() -> None:
    with pytest.warns(UserWarning, match="for example over a margin"):
        open_door(make_simulator("hopper-hop", threads=1))
    open_door(make_simulator("hopper-hop", margin=0.3, threads=1))
