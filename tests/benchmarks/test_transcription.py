"""The transcribed published update: its losses are ours, its cost is the published one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import pwm_sdk.algorithms.pwm as pwm_module
from pwm_sdk import PWM, Critic, FirstOrderActor, PWMConfig, WorldModel, keys
from pwm_sdk.algorithms.return_scales import ReturnDeviation
from speed import updates
from speed.transcription import (
    PublishedActor,
    PublishedCritic,
    PublishedUpdate,
    PublishedWorldModel,
)

OBSERVATIONS, ACTIONS, TASK = 7, 3, 2
UPDATES = 3


def baseline(horizon: int, dtype: torch.dtype = torch.float32) -> PublishedUpdate:
    """A small agent; its task embeddings are longer than 1, so that their norm is cut."""
    model = PublishedWorldModel(
        OBSERVATIONS,
        ACTIONS,
        latent_dim=16,
        hidden=(24, 24),
        encoder_hidden=(20,),
        num_tasks=4,
        task_dim=5,
    )
    actor, critic = PublishedActor(16, ACTIONS, (14, 12, 10)), PublishedCritic(16, (14, 12))
    parts = (part.to(dtype) for part in (model, actor, critic))
    return PublishedUpdate(*parts, horizon)


def ours(published: PublishedUpdate, folder: Path, dtype: torch.dtype) -> PWM:
    """Our PWM with the same weights, read from the baseline's file."""
    file = folder / "pwm.pt"
    published.save(file)
    config = PWMConfig.published(horizon=published.horizon)
    parts = (kind.from_checkpoint(file).to(dtype) for kind in (WorldModel, FirstOrderActor, Critic))
    draws, scale = torch.Generator().manual_seed(5), ReturnDeviation()
    if dtype == torch.float64:
        scale.double()
    return PWM(*parts, config, generator=draws, return_scale=scale)


@pytest.mark.parametrize(
    ("horizon", "batch", "dtype", "bound"),
    [(16, 6, torch.float32, 1e-5), (5, 7, torch.float64, 1e-7)],  # 35 states: five blocks
)
def test_losses_and_weights_are_those_of_pwm(
    horizon: int, batch: int, dtype: torch.dtype, bound: float, tmp_path: Path
) -> None:
    published = baseline(horizon, dtype)
    pwm = ours(published, tmp_path, dtype)
    draws = torch.Generator().manual_seed(5)
    task = torch.full((batch,), TASK)
    for _ in range(UPDATES):
        observation = torch.randn(batch, OBSERVATIONS, dtype=dtype)
        noise = torch.randn(horizon, batch, ACTIONS, generator=draws, dtype=dtype)
        expected = published.update(observation, TASK, noise)
        found = pwm.update({keys.OBSERVATION: observation, keys.TASK: task})
        scale = pwm.return_scale.scale
        found["actor_loss"] = -found["return"] / scale
        for name, value in expected.items():
            assert float(found[name]) == pytest.approx(float(value), rel=bound)
    published.save(tmp_path / "after.pt")
    for kind, part in ((FirstOrderActor, pwm.actor), (Critic, pwm.critic)):
        after = kind.from_checkpoint(tmp_path / "after.pt").to(dtype).state_dict()
        torch.testing.assert_close(part.state_dict(), after, rtol=0, atol=2 * bound)


@pytest.mark.parametrize(("size", "batch"), [(1, 3), (5, 16)])
def test_two_updates_of_published_sizes_agree(
    size: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the throughput runs them, with the actor's loss as it is differentiated."""
    losses: list[float] = []
    actor_loss = pwm_module.actor_loss

    def noted(*given, **settings) -> torch.Tensor:
        loss = actor_loss(*given, **settings)
        losses.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(pwm_module, "actor_loss", noted)
    published = updates.published_agent(size, torch.device("cpu"))
    observation = updates.observations(batch, torch.device("cpu"))
    own = updates.our_agent(published, observation, {})
    baseline = updates.transcribed(published, observation)
    for number, bound in enumerate((1e-5, 1e-4)):  # the second starts 33 steps of Adam apart
        expected, found = baseline._update(), own._update()
        assert losses[number] == pytest.approx(float(expected["actor_loss"]), rel=bound)
        for name in updates.LOSSES:
            assert float(found[name]) == pytest.approx(float(expected[name]), rel=bound)
    assert losses[0] != losses[1]
    assert len(losses) == 2


def test_it_pays_for_what_the_published_program_pays() -> None:
    published = baseline(horizon=3)
    values: list[torch.Tensor] = []
    hook = published.critic.register_forward_hook(lambda module, given, out: values.append(out))
    published.update(torch.randn(6, OBSERVATIONS), TASK, torch.randn(3, 6, ACTIONS))
    hook.remove()
    # A critic graph at each of 3 steps, then 8 passes of 4 minibatches of floor(18 / 4), a fifth
    # of the rest.
    assert len(values) == 3 + 8 * 5
    assert all(value.requires_grad for value in values[:3])
    unused = dict(published.model.named_parameters())
    assert all(parameter.grad is not None for parameter in unused.values())
    for optimizer in (published.actor_optimizer, published.critic_optimizer):
        assert not optimizer.defaults["foreach"] and not optimizer.defaults["fused"]


def test_exploding_values_stop_it() -> None:
    published = baseline(horizon=2)
    with torch.no_grad():
        published.critic.params[-1].fill_(2e6)
    with pytest.raises(ValueError, match="values must be finite"):
        published.update(torch.randn(4, OBSERVATIONS), TASK, torch.randn(2, 4, ACTIONS))
