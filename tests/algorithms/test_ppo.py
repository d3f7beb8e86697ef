"""PPO: advantages and ratios by hand, normalisation, what a batch must look like, saving."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pwm_sdk.algorithms.ppo import PPO, PPOConfig
from pwm_sdk.models.normalizers import RunningMeanStd
from pwm_sdk.training.loop import fit

SMALL = {"hidden": (8,), "epochs": 2, "minibatch": 5}


def batch(
    reward: Tensor, *, done: Tensor | None = None, terminated: Tensor | None = None
) -> TensorDict:
    """Steps [N, T] of random observations with given rewards [N, T]."""
    shape = reward.shape
    none = torch.zeros(*shape, 1, dtype=torch.bool)
    end = none if terminated is None else terminated.unsqueeze(-1)
    following = {
        "observation": torch.randn(*shape, 3),
        "reward": reward.unsqueeze(-1),
        "terminated": end,
        "done": end if done is None else done.unsqueeze(-1),
    }
    return TensorDict(
        {
            "observation": torch.randn(*shape, 3),
            "action": torch.randn(*shape, 2),
            "next": TensorDict(following, shape),
        },
        shape,
    )


class Constant(nn.Module):
    """A critic that says 4 everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(4.0))

    def forward(self, observation: Tensor) -> Tensor:
        return self.value.expand(*observation.shape[:-1], 1)


def prepared(ppo: PPO, data: TensorDict) -> Any:
    return ppo._prepare(data)


def test_advantages_by_hand() -> None:
    """Gamma .5, lambda .5, V = 4: delta = r + 2 - 4, and 1 - 4 where the episode terminated."""
    ppo = PPO(3, 2, PPOConfig(gamma=0.5, lam=0.5, **SMALL), critic=Constant())
    ends = torch.tensor([[False, False, False], [False, True, False]])
    found = prepared(ppo, batch(torch.ones(2, 3), terminated=ends))["advantage"]
    # Row 0: A2 = -1, A1 = -1 + A2/4, A0 = -1 + A1/4. Row 1: A1 = -3 cuts what comes after it.
    expected = torch.tensor([[-1.3125, -1.25, -1.0], [-1.75, -3.0, -1.0]])
    torch.testing.assert_close(found.squeeze(-1), expected)


def test_a_time_limit_cuts_the_sum_but_not_the_bootstrap() -> None:
    ppo = PPO(3, 2, PPOConfig(gamma=0.5, lam=0.5, **SMALL), critic=Constant())
    done = torch.tensor([[True, False]])
    found = prepared(ppo, batch(torch.ones(1, 2), done=done))["advantage"]
    torch.testing.assert_close(found.squeeze(-1), torch.tensor([[-1.0, -1.0]]))


def test_values_follow_the_critic_as_it_learns() -> None:
    critic = Constant()
    ppo = PPO(3, 2, PPOConfig(gamma=0.5, lam=0.0, **SMALL), critic=critic)
    with torch.no_grad():
        critic.value.fill_(2.0)
    found = prepared(ppo, batch(torch.ones(1, 2)))
    torch.testing.assert_close(found["value_target"], torch.full((1, 2, 1), 2.0))  # 1 + .5 * 2
    torch.testing.assert_close(found["advantage"], torch.zeros(1, 2, 1))


def test_log_probabilities_are_those_of_the_policy_before_the_update() -> None:
    ppo = PPO(3, 2, PPOConfig(std=0.5, **SMALL))
    data = batch(torch.ones(2, 3))
    loc, scale = ppo.actor(data["observation"])
    torch.testing.assert_close(scale, torch.full_like(scale, 0.5))
    expected = torch.distributions.Normal(loc, scale).log_prob(data["action"]).sum(-1)
    found = prepared(ppo, data)[ppo.loss.tensor_keys.sample_log_prob]
    torch.testing.assert_close(found, expected)


def test_better_than_average_actions_become_likelier() -> None:
    """One step each; the action (1, 1) is paid, (-1, -1) is not."""
    ppo = PPO(3, 2, PPOConfig(**{**SMALL, "epochs": 5, "minibatch": 40}, lr=1e-2))
    data = batch(torch.tensor([[1.0], [0.0]]).repeat(20, 1), terminated=torch.ones(40, 1).bool())
    data["action"] = torch.tensor([1.0, -1.0]).repeat(20).view(40, 1, 1).expand(40, 1, 2).clone()
    seen = torch.randn(50, 3)
    before = float(ppo(seen).detach().mean())
    metrics = ppo.update(data)
    assert float(ppo(seen).detach().mean()) > before + 0.02
    assert set(metrics) == {"actor_loss", "value_loss", "entropy", "kl", "clipped", "grad_norm"}
    assert ppo.steps == 40


def test_rewards_are_divided_by_the_deviation_of_their_discounted_sums() -> None:
    statistics = RunningMeanStd((1,))
    ppo = PPO(3, 2, PPOConfig(gamma=0.5, **SMALL), returns=statistics)
    ends = torch.tensor([[False, True, False]])
    first = prepared(ppo, batch(torch.full((1, 3), 8.0), done=ends))
    # Sums: 8, 12, and 8 again after the episode's end.
    deviation = torch.tensor([8.0, 12.0, 8.0]).std(correction=0)
    torch.testing.assert_close(first["next", "reward"][0, 0, 0], 8.0 / deviation, rtol=1e-2, atol=0)
    prepared(ppo, batch(torch.full((1, 1), 8.0)))
    torch.testing.assert_close(ppo._sum, torch.tensor([[12.0]]))  # goes on where it stopped


def test_observations_are_normalised_by_what_came_before() -> None:
    statistics = RunningMeanStd((3,))
    ppo = PPO(3, 2, PPOConfig(**SMALL), observations=statistics)
    data = batch(torch.rand(2, 10))
    data["observation"] = data["observation"] * 3.0 + 7.0
    raw = data["observation"].clone()
    ppo.update(data)
    assert torch.equal(data["observation"], raw)  # the caller's batch stays as it was
    torch.testing.assert_close(statistics.mean, raw.mean((0, 1)), rtol=1e-3, atol=1e-3)
    seen = statistics.normalize(raw)
    torch.testing.assert_close(ppo(raw), ppo.actor.net(seen).clamp(-1.0, 1.0))


def test_rate_falls_over_the_planned_updates() -> None:
    ppo = PPO(3, 2, PPOConfig(lr=1.0e-3, **SMALL))
    fit(ppo, [batch(torch.rand(2, 5))] * 3, 4)  # the third begins after 2 of 4
    assert ppo.optimizer.param_groups[0]["lr"] == pytest.approx(0.5e-3)


def test_a_saved_state_continues_to_the_bit() -> None:
    def make() -> PPO:
        settings = {"observations": RunningMeanStd((3,)), "returns": RunningMeanStd((1,))}
        return PPO(3, 2, PPOConfig(**SMALL), **settings)

    ppo, data = make(), batch(torch.rand(2, 10))
    ppo.update(data)
    file = io.BytesIO()
    torch.save(ppo.state_dict(), file)
    file.seek(0)
    other = make()
    other.load_state_dict(torch.load(file, weights_only=True))
    for agent in (ppo, other):
        torch.manual_seed(1)
        agent.update(data)
    seen = torch.randn(5, 3)
    assert torch.equal(ppo(seen), other(seen))
    assert ppo.steps == other.steps == 40


def test_a_batch_without_time_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch must have shape \[N, T\], got \[2\]"):
        PPO(3, 2, PPOConfig(**SMALL)).update(batch(torch.rand(2, 3))[:, 0])
