"""The published single-task loss: imagination that restarts where a real environment does."""

from __future__ import annotations

import torch
from published_weights import Data, actor, actor_state, critic, prefixed, world_model
from torch import Tensor
from vectors import load

from pwm_sdk.algorithms.return_scales import ReturnDeviation
from pwm_sdk.functional.returns import restarted_return
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.objectives.policy import actor_loss, lambda_targets
from pwm_sdk.optim import frozen
from pwm_sdk.rollout import LatentRollout


def batch_major(values: Tensor) -> Tensor:
    """`[H, B]` as `[B, H, 1]`."""
    return values.T.unsqueeze(-1)


def imagine(data: Data, policy: FirstOrderActor):
    """Unroll beside the scripted environment and mark where it ended."""
    model = world_model(prefixed(data, "w/wm."), data)

    def restart(step: int, action: Tensor, latent: Tensor) -> Tensor:
        fresh = model.encode(data["in/next_obs"][step])
        return torch.where(data["in/done"][step].unsqueeze(-1), fresh, latent)

    rollout = LatentRollout(
        model, policy, int(data["cfg/horizon"]), detach=bool(data["cfg/detach"])
    )
    start = model.encode(data["in/obs0"])
    trajectory = rollout(start, noise=data["in/actor_noise"], restart=restart)
    trajectory["next", "terminated"] = batch_major(data["in/termination"])
    trajectory["next", "truncated"] |= batch_major(data["in/truncation"])
    return trajectory


def returns_of(data: Data, trajectory, value: Critic, published: bool = True) -> Tensor:
    after = trajectory["next"]
    return restarted_return(
        after["reward"],
        value(after["latent"]),
        float(data["cfg/gamma"]),
        batch_major(data["in/termination"]),
        batch_major(data["in/truncation"]),
        published=published,
    )


def test_published_single_task_loss(close) -> None:
    data = load("g3_pwm_actor_single_task_env.npz")
    policy, value, scale = actor(data), critic(data), ReturnDeviation()
    policy.clamp_std_()
    with frozen(value):
        trajectory = imagine(data, policy)
        returns = returns_of(data, trajectory, value)
        close(-returns.squeeze(-1), data["out/per_env_loss_before_normalisation"])
        deviation = scale.update(returns)
        gamma = float(data["cfg/gamma"])
        loss = actor_loss(trajectory, value, gamma, scale=deviation, returns=returns)
        loss.backward()
    close(loss, data["out/actor_loss"])
    close(-scale.mean, data["out/ret_rms_mean"])
    close(scale.var, data["out/ret_rms_var"])
    close(trajectory["latent"].transpose(0, 1), data["out/z_buf"])
    after = trajectory["next"]
    close(after["reward"], batch_major(data["out/rew_buf"]))
    bootstrap = value(after["latent"]) * ~after["terminated"]
    close(bootstrap, batch_major(data["out/next_values"]))
    done = (after["terminated"] | after["truncated"]).float()
    close(done, batch_major(data["out/done_mask"]))
    targets = lambda_targets(trajectory, value, gamma, float(data["cfg/lam"]))
    close(targets, batch_major(data["out/target_values"]))
    found = {k: p.grad for k, p in policy.named_parameters()}
    norm = torch.stack([g.norm() for g in found.values()]).norm()
    expected = float(data["out/actor_grad_norm"])
    assert abs(float(norm) - expected) <= 1e-4 * expected
    for key, gradient in actor_state(prefixed(data, "out/actor_grad/")).items():
        bound = 1e-4 * float(gradient.abs().max())
        assert float((found[key] - gradient).abs().max()) <= bound


def test_the_default_keeps_what_the_published_loss_loses(close) -> None:
    """Rewards of an episode that ends exactly at the last step, and gamma^n for the last value."""
    data = load("g3_pwm_actor_single_task_env.npz")
    policy, value = actor(data), critic(data)
    policy.clamp_std_()
    with torch.no_grad():
        trajectory = imagine(data, policy)
        ours, theirs = (returns_of(data, trajectory, value, flag) for flag in (False, True))
    last = data["in/done"][-1]
    assert last.any()
    assert not torch.isclose(ours, theirs, atol=1e-3).all()
    # By hand, episode by episode.
    rewards, values = trajectory["next", "reward"], value(trajectory["next", "latent"])
    for b in range(len(last)):
        total, k, gamma = 0.0, 0, float(data["cfg/gamma"])
        for t in range(len(data["in/done"])):
            total += gamma**k * float(rewards[b, t].detach())
            k += 1
            if bool(data["in/done"][t, b]) or t == len(data["in/done"]) - 1:
                alive = not bool(data["in/termination"][t, b])
                total += alive * gamma**k * float(values[b, t].detach())
                k = 0
        assert abs(total - float(ours[b])) < 1e-4
