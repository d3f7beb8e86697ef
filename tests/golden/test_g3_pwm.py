"""`PWMConfig.published()` is the published update: loss, statistics, gradients and weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from published_weights import Data, actor, actor_state, critic, critic_state, prefixed, world_model
from tensordict import TensorDict
from torch import Tensor
from vectors import load

from pwm_sdk.algorithms.published import PublishedModel
from pwm_sdk.algorithms.pwm import PWM, PWMConfig
from pwm_sdk.objectives.policy import actor_loss, critic_loss, imagined_returns, lambda_targets
from pwm_sdk.optim import frozen
from pwm_sdk.training.loop import fit

MULTITASK = ["g3_pwm_actor_multitask.npz", "g3_pwm_actor_multitask_nodetach.npz"]


def assemble(data: Data, **settings) -> PWM:
    """The recorded start, with the recorded noise. The model has masks, to be ignored."""
    config = PWMConfig.published(
        horizon=int(data["cfg/horizon"]),
        gamma=float(data["cfg/gamma"]),
        actor_lr=float(data["cfg/actor_lr"]),
        critic_lr=float(data["cfg/critic_lr"]),
        betas=(float(data["cfg/beta1"]), float(data["cfg/beta2"])),
        actor_max_norm=float(data["cfg/actor_grad_norm"]),
        critic_max_norm=float(data["cfg/critic_grad_norm"]),
        critic_epochs=int(data["cfg/critic_iterations"]),
        critic_splits=int(data["cfg/critic_batches"]),
        detach=bool(data["cfg/detach"]),
        **settings,
    )
    model = world_model(prefixed(data, "w/wm."), data, masked=True)
    pwm = PWM(model, actor(data), critic(data), config)
    scale, rollout = pwm.return_scale, pwm.rollout
    if scale is not None:
        scale.mean.copy_(-data["in/ret_rms_mean"])  # theirs are statistics of the negative return
        scale.var.copy_(data["in/ret_rms_var"])
        scale.count.copy_(data["in/ret_rms_count"])
    pwm.rollout = lambda latent, task: rollout(latent, task, data["in/actor_noise"])
    return pwm


def starts(data: Data) -> TensorDict:
    """The recorded batch."""
    fields = {"observation": data["in/obs"], "task": data["in/task"]}
    return TensorDict(fields, [len(data["in/obs"])])


def close_gradient(actual: Tensor, expected: Tensor) -> None:
    """Within 1e-4 of the largest entry."""
    assert actual.shape == expected.shape
    bound = 1e-4 * float(expected.abs().max()) + 1e-9
    assert float((actual - expected).abs().max()) <= bound


def time_major(values: Tensor) -> Tensor:
    """`[B, H, 1]` as `[H, B]`, or `[B, H, D]` as `[H, B, D]`."""
    values = values.transpose(0, 1)
    return values.squeeze(-1) if values.shape[-1] == 1 else values


def gradients(module: torch.nn.Module) -> Data:
    """Gradients by parameter name."""
    return {k: p.grad for k, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", MULTITASK)
def test_published_actor_loss(close, name: str) -> None:
    data = load(name)
    pwm = assemble(data)
    pwm.actor.clamp_std_()
    close(pwm.actor.log_std.squeeze(0), data["out/logstd_after_clamp"])
    with frozen(pwm.critic):
        latent = pwm.model.encode(data["in/obs"], data["in/task"])
        trajectory = pwm.rollout(latent, data["in/task"])
        returns = imagined_returns(trajectory, pwm.critic, pwm.gamma, extra_discount=True)
        close(-returns.squeeze(-1), data["out/per_env_loss_before_normalisation"])
        scale = pwm.return_scale.update(returns)
        loss = actor_loss(trajectory, pwm.critic, pwm.gamma, scale=scale, returns=returns)
        loss.backward()
    close(loss, data["out/actor_loss"])
    close(-pwm.return_scale.mean, data["out/ret_rms_mean"])
    close(pwm.return_scale.var, data["out/ret_rms_var"])
    close(pwm.return_scale.count, data["out/ret_rms_count"])
    close(time_major(trajectory["latent"]), data["out/z_buf"])
    close(time_major(trajectory["next", "reward"]), data["out/rew_buf"])
    close(time_major(pwm.critic(trajectory["next", "latent"])), data["out/next_values"])
    targets = lambda_targets(trajectory, pwm.critic, pwm.gamma, pwm.config.lam)
    close(time_major(targets), data["out/target_values"])
    found, expected = gradients(pwm.actor), actor_state(prefixed(data, "out/actor_grad/"))
    assert set(found) == set(expected)
    for key, value in expected.items():
        close_gradient(found[key], value)


@pytest.mark.parametrize("name", MULTITASK)
def test_published_update(close, monkeypatch, name: str) -> None:
    data = load(name)
    pwm, losses = assemble(data), []

    def recorded(*arguments) -> Tensor:
        losses.append(critic_loss(*arguments))
        return losses[-1]

    monkeypatch.setattr("pwm_sdk.algorithms.critic_fit.critic_loss", recorded)
    rate = float(data["out/lrs_epoch10_of_100"][0])
    pwm.set_learning_rates(rate / pwm.config.actor_lr)
    metrics = pwm.update(starts(data))
    close(torch.stack(losses).detach(), data["out/update/critic_losses"])
    close_gradient(metrics["actor_grad_norm"].double(), data["out/update/actor_grad_norm"])
    close(pwm.return_scale.var, data["out/ret_rms_var"])
    after = {"actor": actor_state(prefixed(data, "after/actor."))}
    after["critic"] = critic_state(prefixed(data, "after/critic."))
    for part, expected in after.items():
        state = getattr(pwm, part).state_dict()
        for key, value in expected.items():
            close(state[key], value)


def test_every_published_setting_is_needed(close) -> None:
    """Each of them alone set back to our default gives other numbers: the tests above see it."""
    data = load(MULTITASK[0])

    def state(detach: bool = True, **settings) -> Tensor:
        pwm = assemble({**data, "cfg/detach": torch.tensor(detach)}, **settings)
        metrics = pwm.update(starts(data))
        results = [*pwm.actor.parameters(), *pwm.critic.parameters()]
        results += [metrics["return"], metrics["actor_grad_norm"]]
        return torch.cat([p.detach().flatten() for p in results])

    published = state()
    ours = {"lam": 0.95, "extra_discount": False, "symlog_reward": False, "mask_actions": True}
    ours |= {"shuffle": True, "detach": False, "return_scale": "none"}
    for name, value in ours.items():
        assert float((state(**{name: value}) - published).abs().max()) > 1e-4, name


def test_the_published_schedule() -> None:
    """The rates that a loop of 100 updates sets before its eleventh."""
    data = load(MULTITASK[0])
    pwm, rates = assemble(data), []

    def update(batch: Any) -> dict[str, Tensor]:
        pwm.updates += 1
        optimizers = (pwm.actor_optimizer, pwm.critic_optimizer)
        rates.append([o.param_groups[0]["lr"] for o in optimizers])
        return {}

    pwm.update = update
    source = SimpleNamespace(sample=dict)
    fit(pwm, source, 100)
    found = torch.tensor(rates[10], dtype=torch.float64)
    torch.testing.assert_close(found, data["out/lrs_epoch10_of_100"][:2], rtol=1e-12, atol=0)


def test_the_published_model_is_a_view(close) -> None:
    data = load(MULTITASK[0])
    model = world_model(prefixed(data, "w/wm."), data, masked=True)
    view, task = PublishedModel(model), data["in/task"]
    latent = view.encode(data["in/obs"], task)
    action = torch.ones(len(latent), model.action_dim)
    unmasked = world_model(prefixed(data, "w/wm."), data)
    following, reward = view.step(latent, action, task)
    close(following, unmasked.next(latent, action, task))
    close(reward.sign() * reward.abs().expm1(), unmasked.reward(latent, action, task))
    masked = PublishedModel(model, symlog_reward=False, mask_actions=True)
    close(masked.step(latent, action, task)[0], model.next(latent, action, task))
    close(masked.step(latent, action, task)[1], model.reward(latent, action, task))
    assert not torch.equal(following, masked.next(latent, action, task))
