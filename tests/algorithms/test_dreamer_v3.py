"""DreamerV3: how windows are laid out, what memory means, that every part learns, saving."""

from __future__ import annotations

import copy

import pytest
import torch
from tensordict import TensorDict

from pwm_sdk.algorithms.dreamer_v3 import DreamerV3, DreamerV3Config
from pwm_sdk.functional.twohot import symlog

SMALL = {"hidden": 16, "layers": 1, "belief": 16, "blocks": 2, "categoricals": 2, "classes": 4}
# Below free_nats prior and posterior are left alone; 0 lets them learn at once.
CONFIG = DreamerV3Config(**SMALL, bins=15, horizon=3, free_nats=0.0)


def windows(count: int = 4, steps: int = 5, reward: float = 1.0) -> TensorDict:
    return TensorDict(
        {
            "observation": torch.randn(count, steps + 1, 3),
            "action": torch.rand(count, steps, 2) * 2 - 1,
            "reward": torch.full((count, steps, 1), reward),
            "terminated": torch.zeros(count, steps, 1, dtype=torch.bool),
        },
        [count],
    )


def test_each_step_has_the_action_that_led_to_its_observation() -> None:
    agent, data = DreamerV3(3, 2, CONFIG), windows()
    found = agent._sequences(data)
    assert found.shape == (4, 5)
    assert torch.equal(found["action"], data["action"])
    torch.testing.assert_close(found["next", "observation"], symlog(data["observation"][:, 1:]))
    assert torch.equal(found["next", "reward"], data["reward"])


def test_a_window_starts_from_the_memory_of_its_first_observation() -> None:
    agent, data = DreamerV3(3, 2, CONFIG), windows()
    agent.generator.manual_seed(1)  # the discrete state is drawn
    found = agent._sequences(data)
    agent.generator.manual_seed(1)
    _, memory = agent.act(data["observation"][:, 0])
    for name in ("state", "belief"):
        torch.testing.assert_close(found[name][:, 0], memory[name])


def test_a_memory_that_was_given_stays_as_it_is() -> None:
    agent = DreamerV3(3, 2, CONFIG)
    _, memory = agent.act(torch.randn(2, 3))
    before = memory.clone()
    _, after = agent.act(torch.randn(2, 3), memory, torch.tensor([False, True]))
    assert set(memory.keys()) == set(before.keys())
    assert all(torch.equal(memory[name], before[name]) for name in before.keys())  # noqa: SIM118
    assert not torch.equal(after["belief"], memory["belief"])


def test_memory_is_kept_and_lost_where_an_episode_begins() -> None:
    agent, seen = DreamerV3(3, 2, CONFIG), torch.randn(2, 3)
    _, memory = agent.act(torch.randn(2, 3))
    torch.manual_seed(1)
    _, kept = agent.act(seen, memory.clone(), torch.tensor([False, True]))
    torch.manual_seed(1)
    _, fresh = agent.act(seen)
    assert not torch.allclose(kept["belief"][0], fresh["belief"][0])
    torch.testing.assert_close(kept["belief"][1], fresh["belief"][1])


def test_exploration_is_noise_around_the_mean() -> None:
    agent, seen = DreamerV3(3, 2, CONFIG), torch.zeros(5000, 3)
    torch.manual_seed(1)
    mean, _ = agent.act(seen)
    torch.manual_seed(1)
    drawn, memory = agent.act(seen, explore=True)
    # The heads start near zero: the mean is 0 and the std .1 + .9 sigmoid(2), clipped to [-1, 1].
    assert float(mean.detach().abs().max()) < 0.1
    assert float(drawn.detach().abs().max()) == 1.0
    inside = (drawn.abs() < 0.5).float().mean()
    normal = torch.distributions.Normal(0.0, 0.1 + 0.9 * torch.sigmoid(torch.tensor(2.0)))
    expected = 1.0 - 2.0 * float(normal.cdf(torch.tensor(-0.5)))
    assert float(inside) == pytest.approx(expected, abs=0.02)
    assert torch.equal(memory["previous_action"], drawn)


def test_an_update_moves_every_parameter() -> None:
    agent = DreamerV3(3, 2, CONFIG)
    before = [p.detach().clone() for p in agent.loss.parameters()]
    for _ in range(3):  # heads that start at zero pass no gradient on at first
        metrics = agent.update(windows())
    assert {"loss_model_reco", "loss_actor", "loss_value", "return_scale"} <= set(metrics)
    pairs = zip(before, agent.loss.named_parameters(), strict=True)
    still = [name for then, (name, now) in pairs if torch.equal(then, now)]
    assert still == []


def test_the_value_that_judges_imagination_is_the_one_that_is_trained() -> None:
    agent = DreamerV3(3, 2, CONFIG)
    seen = TensorDict({"state": torch.randn(4, 8), "belief": torch.randn(4, 16)}, [4])
    judge, trained = agent.loss.actor_loss.value_model, agent.loss.value_loss.value_model_params
    before = judge(seen.clone())["state_value_logits"].detach()
    agent.update(windows())
    after = judge(seen.clone())["state_value_logits"].detach()
    assert not torch.equal(before, after)
    weights = dict(judge.named_parameters())
    assert weights
    assert all(trained[tuple(name.split("."))] is value for name, value in weights.items())


def test_the_slow_value_follows() -> None:
    agent = DreamerV3(3, 2, DreamerV3Config(**SMALL, bins=15, horizon=3, tau=0.5))
    value = agent.loss.value_loss
    before = value.target_value_model_params.data.clone()
    agent.update(windows())
    expected = before.lerp(value.value_model_params.data, 0.5)
    torch.testing.assert_close(value.target_value_model_params.data.to_dict(), expected.to_dict())


def test_a_saved_state_continues_to_the_bit() -> None:
    agent, other = DreamerV3(3, 2, CONFIG), DreamerV3(3, 2, CONFIG)
    agent.update(windows())
    other.load_state_dict(copy.deepcopy(agent.state_dict()))
    data, actions = windows(), []
    for mine in (agent, other):
        torch.manual_seed(1)
        mine.update(data)
        actions.append(mine.act(data["observation"][:, 0])[0])
    assert torch.equal(*actions)


def test_senseless_input_is_refused() -> None:
    agent = DreamerV3(3, 2, CONFIG)
    with pytest.raises(ValueError, match="loss must be finite"):
        agent.update(windows(reward=float("nan")))
