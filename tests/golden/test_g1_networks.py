"""Q functions and policy prior against the published ones."""

from __future__ import annotations

import torch
from networks import policy_prior, q_ensemble, real_actions
from published_weights import prefixed, world_model
from vectors import load

from pwm_sdk.functional.gaussian import gaussian_log_prob, tanh_log_slope


def test_q_functions(close) -> None:
    data = load("g1_world_model_small.npz")
    model = world_model(prefixed(data, "w/"), data, masked=True)
    q, target = q_ensemble(data), q_ensemble(data, "w/_target_Qs.params.")
    context, latent, action = model.context(data["in/task"]), data["out/encode"], data["in/action"]
    logits = q.logits(latent, action[0], context)
    close(logits, data["out/Q_logits_all"])
    close(target.logits(latent, action[0], context), data["out/Q_target_logits_all"])
    close(q.decode(logits), data["out/Q_values_all"])
    lowest = q.value(latent, action[0], context, heads=data["in/qidx_min"])
    close(lowest, data["out/Q_min"])
    heads = data["in/qidx_avg_target"]
    close(
        target.value(latent, action[0], context, heads=heads, reduce="mean"),
        data["out/Q_avg_target"],
    )


def test_policy_prior(close) -> None:
    for name in ("g1_world_model_small.npz", "g1_world_model_single.npz"):
        data = load(name)
        many = "w/_task_emb.weight" in data
        model = world_model(prefixed(data, "w/"), data, masked=many)
        context = model.context(data["in/task"] if many else None)
        prior, latent, noise = policy_prior(data), data["out/encode"], data["in/pi_eps"]
        mean, log_std = prior.distribution(latent, context)
        action = prior(latent, context, noise)
        close(torch.tanh(mean), data["out/pi_mean"])
        close(prior(latent, context), data["out/pi_mean"])
        close(log_std, data["out/pi_log_std"])
        close(action, data["out/pi_action"])
        close(prior.given(context).sample(latent, noise), data["out/pi_action"])
        masked = noise if context.action_mask is None else noise * context.action_mask
        gaussian = gaussian_log_prob(masked, log_std)
        close(tanh_log_slope(action) - gaussian, data["out/pi_entropy"])
        close(-gaussian * real_actions(context, noise), data["out/pi_scaled_entropy"])
