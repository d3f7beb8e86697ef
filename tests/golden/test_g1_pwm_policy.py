"""PWM's actor and critics against the published ones."""

from __future__ import annotations

import torch
from published_weights import actor, critic, prefixed, world_model
from vectors import load


def test_actor(close) -> None:
    data = load("g1_pwm_policy.npz")
    policy, latent, noise = actor(data), data["out/z"], data["in/noise"]
    close(policy.loc(latent), data["out/mu"])
    close(policy.std.log().squeeze(0), data["out/logstd"])
    close(policy.loc(latent) + policy.std * noise, data["out/sample"])
    close(policy(latent, noise), data["out/action"])
    close(policy(latent), data["out/action_deterministic"])


def test_acting_one_observation_at_a_time(close) -> None:
    data = load("g1_pwm_policy.npz")
    policy, model = actor(data), world_model(prefixed(data, "w/wm."), data)
    actions = [policy(model.encode(row, data["in/task"])).view(-1) for row in data["in/obs"]]
    close(torch.stack(actions), data["out/act_api"])


def test_critic(close) -> None:
    data = load("g1_pwm_policy.npz")
    values = critic(data)
    close(values.values(data["out/z"]).squeeze(-1), data["out/critic_all"])
    close(values(data["out/z"]).squeeze(-1), data["out/critic_all"].amin(0))
