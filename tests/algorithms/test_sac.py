"""SAC: where the bootstrap stops, what an update moves, how a stream is consumed, saving."""

from __future__ import annotations

import io

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pwm_sdk.algorithms.sac import SAC, SACConfig
from pwm_sdk.training.loop import fit

SMALL = {"hidden": (16,), "batch_size": 8, "capacity": 100, "random_steps": 4}


def batch(count: int = 8, *, terminated: bool = False, reward: float = 2.0) -> TensorDict:
    end = torch.full((count, 1), terminated)
    following = {
        "observation": torch.randn(count, 3),
        "reward": torch.full((count, 1), reward),
        "terminated": end,
        "done": torch.ones(count, 1, dtype=torch.bool),  # every step ends its episode
    }
    return TensorDict(
        {
            "observation": torch.randn(count, 3),
            "action": torch.rand(count, 2) * 2 - 1,
            "next": TensorDict(following, [count]),
        },
        [count],
    )


class Constant(nn.Module):
    """A critic that says 5 everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(5.0))

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        return self.value.expand(*observation.shape[:-1], 1)


@pytest.mark.parametrize(("terminated", "target"), [(True, 2.0), (False, 2.0 + 0.9 * 5.0)])
def test_bootstraps_past_a_time_limit_but_not_past_an_end(terminated: bool, target: float) -> None:
    # With next to no temperature the target is r + gamma (1 - terminated) min Q; Q is 5.
    sac = SAC(3, 2, SACConfig(gamma=0.9, alpha=1e-9, **SMALL), critic=Constant())
    with torch.no_grad():  # TorchRL draws fresh weights for the second critic
        for values in (sac.loss.qvalue_network_params, sac.loss.target_qvalue_network_params):
            values.apply_(lambda x: x.fill_(5.0))
    loss = sac.update(batch(terminated=terminated))["value_loss"]
    both = torch.tensor(2.0 * (5.0 - target) ** 2)  # the sum over the two critics
    torch.testing.assert_close(loss, both, rtol=1e-4, atol=1e-4)


def test_an_update_moves_all_parts_and_the_targets_slowly() -> None:
    sac = SAC(3, 2, SACConfig(tau=0.1, **SMALL))
    loss = sac.loss
    parts = {
        "actor": loss.actor_network_params,
        "critics": loss.qvalue_network_params,
        "targets": loss.target_qvalue_network_params,
    }
    before = {name: part.data.clone() for name, part in parts.items()}
    log_alpha = loss.log_alpha.detach().clone()
    metrics = sac.update(batch())
    assert set(metrics) == {"actor_loss", "value_loss", "alpha", "entropy"}
    assert not torch.equal(loss.log_alpha, log_alpha)
    for name, part in parts.items():
        pairs = zip(part.data.values(True, True), before[name].values(True, True), strict=True)
        assert all(not torch.equal(now, then) for now, then in pairs), name
    expected = before["targets"].lerp(parts["critics"].data, 0.1)
    torch.testing.assert_close(parts["targets"].data.to_dict(), expected.to_dict())


def test_first_actions_are_uniform_then_the_policys() -> None:
    sac = SAC(3, 2, SACConfig(**SMALL))
    seen = torch.zeros(4000, 3)
    first = sac.explore(seen)
    assert float(first.abs().max()) <= 1.0
    assert float(first.var()) == pytest.approx(1 / 3, rel=0.05)  # of the uniform on [-1, 1]
    sac.steps = 4
    drawn = sac.explore(seen)
    loc, scale = sac.actor(seen[:1])
    torch.testing.assert_close(drawn.atanh().mean(0), loc[0], atol=0.1, rtol=0.0)
    torch.testing.assert_close(drawn.atanh().std(0), scale[0], atol=0.1, rtol=0.0)
    torch.testing.assert_close(sac(seen[:1]), loc.tanh())


def test_updates_are_due_per_step_after_the_random_ones() -> None:
    sac = SAC(3, 2, SACConfig(updates_per_step=0.5, **SMALL))
    updates = []
    update = sac.update
    sac.update = lambda sampled: updates.append(len(sampled)) or update(sampled)
    replay = sac.make_replay()
    fit(sac, sac.replayed([batch(3), batch(3), batch(4)], replay), None)
    # 3 steps: still random. 3 and 4 more: half an update each.
    assert updates == [8, 8, 8]
    assert (sac.steps, len(replay)) == (10, 10)


def test_a_resumed_loop_owes_what_the_first_one_left() -> None:
    sac = SAC(3, 2, SACConfig(updates_per_step=0.25, **SMALL))
    replay = sac.make_replay()
    fit(sac, sac.replayed([batch(6)], replay), None)  # one update and a half
    other = SAC(3, 2, SACConfig(updates_per_step=0.25, **SMALL))
    other.load_state_dict(sac.state_dict())
    for agent in (sac, other):
        updates, update = [], agent.update
        agent.update = lambda sampled, u=updates, do=update: u.append(len(sampled)) or do(sampled)
        torch.manual_seed(1)
        fit(agent, agent.replayed([batch(2)], replay), None)  # half an update more
        assert (updates, agent.steps) == ([8], 8)


def test_networks_of_ones_own_are_used() -> None:
    actor = nn.Linear(3, 4)
    sac = SAC(3, 2, SACConfig(**SMALL), actor=actor)
    seen = torch.randn(5, 3)
    torch.testing.assert_close(sac(seen), actor(seen)[:, :2].tanh())
    before = actor.weight.detach().clone()
    sac.update(batch())
    assert not torch.equal(actor.weight, before)


def test_a_saved_state_continues_to_the_bit() -> None:
    sac, data = SAC(3, 2, SACConfig(**SMALL)), batch()
    sac.update(data)
    sac.steps = 7
    file = io.BytesIO()
    torch.save(sac.state_dict(), file)
    file.seek(0)
    other = SAC(3, 2, SACConfig(**SMALL))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.steps == 7
    for agent in (sac, other):
        torch.manual_seed(1)
        agent.update(data)
    seen = torch.randn(5, 3)
    assert torch.equal(sac(seen), other(seen))


def test_rewards_that_are_no_numbers_stop_the_update() -> None:
    sac = SAC(3, 2, SACConfig(**SMALL))
    with pytest.raises(ValueError, match="loss must be finite"):
        sac.update(batch(reward=float("nan")))
