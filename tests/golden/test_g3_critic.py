"""The critic's loss and gradients on published minibatches."""

from __future__ import annotations

import pytest
import torch
from published import critic, critic_state, prefixed
from vectors import load

from pwm_sdk.objectives.policy import critic_loss


def test_published_critic_minibatches(close) -> None:
    """They drop rows with NaN latents before cutting blocks; here such a rollout is an error."""
    data = load("g3_critic.npz")
    latents, targets = data["in/z"].flatten(0, 1), data["in/targets"].flatten().unsqueeze(-1)
    valid = latents.isfinite().all(-1)
    assert int((~valid).sum()) == 1
    size = int(data["in/batch_size"])
    parts = zip(latents[valid].split(size), targets[valid].split(size), strict=True)
    count = 0
    for i, (states, target) in enumerate(parts):
        ours = critic(data)
        close(states, data[f"out/minibatch_z_{i}"])
        close(target.squeeze(-1), data[f"out/minibatch_targets_{i}"])
        close(ours.values(states).squeeze(-1), data[f"out/values_{i}"])
        loss = critic_loss(ours, states, target)
        close(loss, data[f"out/loss_{i}"])
        loss.backward()
        found = {k: p.grad for k, p in ours.named_parameters()}
        norm = torch.stack([g.norm() for g in found.values()]).norm()
        assert float(norm) == pytest.approx(float(data[f"out/gradnorm_{i}"]), rel=1e-4)
        for key, value in critic_state(prefixed(data, f"out/grad{i}/")).items() if i == 0 else ():
            bound = 1e-4 * float(value.abs().max())
            assert float((found[key] - value).abs().max()) <= bound
        count += 1
    assert count == int(data["out/num_minibatches"])


def test_a_weight_of_zero_drops_a_row_too(close) -> None:
    data = load("g3_critic.npz")
    states, target = data["out/minibatch_z_0"], data["out/minibatch_targets_0"].unsqueeze(-1)
    weight = torch.ones_like(target)
    weight[0] = 0.0
    alone = critic_loss(critic(data), states[1:], target[1:])
    close(critic_loss(critic(data), states, target, weight), alone.detach())
