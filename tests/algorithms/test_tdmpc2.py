"""TD-MPC2's training: it learns, resumes, and steps only what it should."""

from __future__ import annotations

import copy

import pytest
import torch
from tensordict import TensorDict

from pwm_sdk.algorithms.tdmpc2 import TDMPC2
from pwm_sdk.algorithms.tdmpc2_config import TDMPC2Config
from pwm_sdk.models.policy_prior import PolicyPrior
from pwm_sdk.models.q_ensemble import QEnsemble
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.training.loop import fit

TASKS = {"num_tasks": 2, "action_dims": [1, 2]}


def windows(count: int = 64, horizon: int = 3, ends: bool = False) -> TensorDict:
    """A point moves by its action and is rewarded for being to the right."""
    action = torch.rand(count, horizon, 2) * 2 - 1
    task = torch.arange(count) % 2
    action[task == 0, :, 1] = 0.0
    start = torch.rand(count, 1, 2) * 2 - 1
    observation = torch.cat((start, start + 0.3 * action.cumsum(1)), 1)
    reward = 10.0 * observation[:, 1:, :1]
    data = {"observation": observation, "action": action, "reward": reward, "task": task}
    if ends:
        data["terminated"] = observation[:, 1:, :1] > 0.5
    return TensorDict(data, [count])


def learner(config: TDMPC2Config | None = None, seed: int = 0, **settings) -> TDMPC2:
    torch.manual_seed(seed)
    sizes = {"task_dim": 4, "latent_dim": 16, "hidden": (32, 32), "encoder_hidden": (32,)}
    model = WorldModel.published(2, 2, **{**sizes, **TASKS, **settings})
    q, prior = QEnsemble.for_model(model, ensemble=3), PolicyPrior.for_model(model)
    return TDMPC2(model, q, prior, config, generator=torch.Generator().manual_seed(seed))


def weights(part: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in part.state_dict().items()}


def moved(before: dict, part: torch.nn.Module) -> list[str]:
    return [k for k, v in part.state_dict().items() if not torch.equal(v, before[k])]


def test_losses_fall_rewards_are_learned_and_the_prior_acts() -> None:
    algorithm = learner(TDMPC2Config(gamma=[0.9, 0.5], lr=3e-3, encoder_lr=3e-3))
    batch = windows(128)
    first = algorithm.update(batch)
    for _ in range(80):
        last = algorithm.update(batch)
    for name in ("total_loss", "reward_loss", "value_loss", "consistency_loss"):
        assert last[name] < 0.65 * first[name], name
    assert last["value"] > first["value"] + 1.0  # values start at 0; going right earns more
    with torch.no_grad():
        model, task, reward = algorithm.model, batch["task"], batch["reward"][:, 0]
        latent = model.encode(batch["observation"][:, 0], task)
        predicted = model.reward(latent, batch["action"][:, 0], task)
        action = algorithm.prior(latent, model.context(task))
    assert float((predicted - reward).square().mean()) < 0.4 * float(reward.var())
    assert float(action[:, 0].mean()) > 0.8


@pytest.mark.parametrize("horizon", [1, 5])
def test_an_update_moves_every_part(horizon: int) -> None:
    algorithm = learner()
    parts = ("model", "q", "prior", "target")
    # Heads start at zero: the first step moves only them, the second what lies below.
    algorithm.update(windows(horizon=horizon))
    before = {name: weights(getattr(algorithm, name)) for name in parts}
    algorithm.update(windows(horizon=horizon))
    for name in parts:
        assert set(moved(before[name], getattr(algorithm, name))) == set(before[name])


def test_targets_follow_slowly() -> None:
    algorithm = learner(TDMPC2Config(tau=0.25))
    before = weights(algorithm.target)
    algorithm.update(windows())
    for name, value in algorithm.target.state_dict().items():
        expected = torch.lerp(before[name], algorithm.q.state_dict()[name], 0.25)
        torch.testing.assert_close(value, expected)


def test_the_prior_s_loss_steps_the_prior_only() -> None:
    algorithm = learner()
    algorithm.update(windows())
    before = {name: weights(getattr(algorithm, name)) for name in ("model", "q", "prior")}
    embedding = algorithm.model.task_embedding
    embedding.grad = None
    algorithm._update_prior(torch.rand(4, 3, 16), torch.tensor([0, 1, 1, 0]))
    assert moved(before["prior"], algorithm.prior)
    assert not moved(before["model"], algorithm.model)
    assert not moved(before["q"], algorithm.q)
    assert embedding.grad is None
    assert all(p.requires_grad for p in algorithm.q.parameters())


def test_a_model_of_one_task_needs_no_ids() -> None:
    algorithm = learner(TDMPC2Config.published(), num_tasks=0, action_dims=[2])
    metrics = algorithm.update(windows().exclude("task"))
    assert all(bool(torch.isfinite(value)) for value in metrics.values())
    assert algorithm._carried is None


def test_an_episodic_model_learns_what_ends() -> None:
    algorithm = learner(TDMPC2Config(lr=3e-3, encoder_lr=3e-3), episodic=True)
    batch = windows(128, ends=True)
    for _ in range(60):
        metrics = algorithm.update(batch)
    model, task = algorithm.model, batch["task"]
    latent = model.encode(batch["observation"][:, 0], task)
    _, _, ended = model.step(latent, batch["action"][:, 0], task)
    truth = batch["terminated"][:, 0]
    assert float((ended == truth).float().mean()) > 0.9 > float((~truth).float().mean())
    assert metrics["termination_loss"] > 0
    with pytest.raises(ValueError, match="batch must hold terminated for an episodic model"):
        algorithm.update(batch.exclude("terminated"))


def test_dropout_is_off_outside_the_value_loss_unless_asked_for() -> None:
    assert not learner().target.training
    algorithm = learner()
    algorithm.update(windows())
    assert not algorithm.q.training
    first = learner(TDMPC2Config.pwm_pretraining())
    assert first.target.training
    first.update(windows())
    assert first.q.training


def test_a_saved_state_resumes_exactly() -> None:
    config = TDMPC2Config.published(rho=0.9)
    algorithm, batch = learner(config), windows()
    algorithm.update(batch)
    state = copy.deepcopy(algorithm.state_dict())
    # Dropout draws from the global generator.
    torch.manual_seed(1)
    expected = algorithm.update(batch)
    other = learner(config, seed=5)
    other.load_state_dict(state)
    torch.manual_seed(1)
    actual = other.update(batch)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    assert not moved(weights(algorithm.prior), other.prior)


def test_fit_updates_from_a_replay() -> None:
    class Replay:
        calls = 0

        def sample(self) -> TensorDict:
            self.calls += 1
            return windows(8)

    replay = Replay()
    metrics = fit(learner(), replay, 3)
    assert replay.calls == 3
    assert set(metrics) >= {"total_loss", "prior_loss", "scale"}


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match=r"rho must lie in \(0, 1\], got 0.0"):
        TDMPC2Config(rho=0.0)
    with pytest.raises(ValueError, match=r"tau must lie in \[0, 1\], got 2"):
        TDMPC2Config(tau=2.0)
    with pytest.raises(ValueError, match=r"entropy_kind must be one of .* got 'none'"):
        TDMPC2Config(entropy_kind="none")
    with pytest.raises(ValueError, match=r"gamma must be one number or one per task \(2\), got 3"):
        learner(TDMPC2Config(gamma=[0.9, 0.9, 0.9]))
    with pytest.raises(ValueError, match=r"gamma must lie in \[0, 1\], got 1.5"):
        learner(TDMPC2Config(gamma=1.5))
    parts = learner()
    wrong = PolicyPrior(8, 2)
    with pytest.raises(ValueError, match=r"prior must have latents and actions .* got \(8, 2\)"):
        TDMPC2(parts.model, parts.q, wrong)
