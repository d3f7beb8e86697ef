"""The assembly: populations, averages, guards, schedules, saving, and what it must not touch."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pwm_sdk.algorithms.pwm import PWM, PWMConfig
from pwm_sdk.algorithms.return_scales import ReturnScale
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.training.loop import fit

FAST = {"horizon": 3, "critic_epochs": 2, "critic_splits": 2}


def small_model() -> WorldModel:
    model = WorldModel.published(
        3, 2, num_tasks=2, task_dim=4, latent_dim=8, hidden=(16,), encoder_hidden=(16,),
        simnorm_size=4, action_dims=[1, 2],
    )  # fmt: skip
    nn.init.normal_(model.reward_head[-1].weight)
    return model


def assemble(model, population: int | None, config: PWMConfig, **settings) -> PWM:
    actor = FirstOrderActor.published(
        model.latent_dim, model.action_dim, (8,), population=population
    )
    critic = Critic.published(model.latent_dim, (8,), 2, population=population)
    return PWM(model, actor, critic, config, **settings)


def starts(*lead: int) -> TensorDict:
    task = torch.arange(lead[0]).remainder(2).view(-1, *[1] * (len(lead) - 1)).expand(lead)
    return TensorDict({"observation": torch.randn(*lead, 3), "task": task}, lead)


def weights_of(pwm: PWM) -> list[Tensor]:
    return [p.detach().clone() for m in (pwm.actor, pwm.critic) for p in m.parameters()]


def with_noise(pwm: PWM, noises: list[Tensor]) -> None:
    """Let the rollouts of a `PWM` use these noises, one an update."""
    rollout, given = pwm.rollout, iter(noises)
    pwm.rollout = lambda latent, task: rollout(latent, task, next(given))


@pytest.mark.parametrize("actor_lam", [None, 0.95])
def test_a_member_of_a_population_learns_as_it_would_alone(actor_lam: float | None) -> None:
    shared = {
        **FAST, "actor_lam": actor_lam, "saturation": 0.1, "target_tau": 0.1, "average_tau": 0.1,
        "actor_max_norm": 0.05, "critic_max_norm": 0.5,
    }  # fmt: skip
    model = small_model()

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(3)  # of the minibatches; noise is given

    config = PWMConfig.paper(gamma=(0.9, 0.99), **shared)
    scale = ReturnScale(population=2)
    together = assemble(model, 2, config, return_scale=scale, generator=generator())
    batches = [starts(2, 5) for _ in range(4)]
    noises = [torch.randn(3, 2, 5, 2) for _ in batches]
    members = []
    for i, gamma in enumerate(config.gamma):
        config_i = PWMConfig.paper(gamma=gamma, **shared)
        alone = assemble(model, None, config_i, return_scale=ReturnScale(), generator=generator())
        for name in ("actor", "critic", "target", "average"):
            state = getattr(together, name).state_dict()
            getattr(alone, name).load_state_dict({k: v[i] for k, v in state.items()})
        with_noise(alone, [noise[:, i] for noise in noises])
        members.append(alone)
    with_noise(together, noises)
    for batch in batches:
        metrics = together.update(batch)
        for i, alone in enumerate(members):
            own = alone.update(batch[i])
            for name in ("return", "actor_grad_norm", "critic_grad_norm"):
                torch.testing.assert_close(metrics[name][i], own[name], atol=1e-4, rtol=1e-3)
    for i, alone in enumerate(members):
        for name in ("actor", "critic", "target", "average"):
            state = getattr(together, name).state_dict()
            mine = {k: v[i] for k, v in state.items()}
            torch.testing.assert_close(
                mine, dict(getattr(alone, name).state_dict()), atol=1e-4, rtol=1e-3
            )


@pytest.mark.parametrize("population", [None, 2])
def test_an_update_improves_policies_and_leaves_the_model_alone(population: int | None) -> None:
    model = small_model()
    pwm = assemble(model, population, PWMConfig.paper(**FAST), return_scale=ReturnScale(population))
    before, trained = copy.deepcopy(model.state_dict()), weights_of(pwm)
    metrics = pwm.update(starts(2, 5) if population else starts(6))
    assert set(metrics) == {
        "return", "value_loss", "actor_grad_norm", "critic_grad_norm", "saturated",
    }  # fmt: skip
    for name in ("return", "actor_grad_norm", "critic_grad_norm"):
        assert metrics[name].shape == (() if population is None else (2,))
    assert all(torch.isfinite(v).all() and not v.requires_grad for v in metrics.values())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    for parameter in model.parameters():
        assert parameter.requires_grad
        assert parameter.grad is None
    changed = [not torch.equal(a, b) for a, b in zip(trained, weights_of(pwm), strict=True)]
    assert all(changed)


def test_windows_start_from_their_first_observation() -> None:
    model, window = small_model(), torch.randn(6, 4, 3)
    task = torch.arange(6).remainder(2)
    results = []
    for observation in (window, window[:, 0]):
        torch.manual_seed(0)
        pwm = assemble(model, None, PWMConfig.paper(**FAST))
        batch = TensorDict({"observation": observation, "task": task}, [6])
        results.append(pwm.update(batch)["return"])
    assert torch.equal(*results)


class Uphill:
    """The reward is the sum of the actions: more is always better."""

    latent_dim, action_dim = 3, 2

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return observation

    def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
        return latent, action.sum(-1, keepdim=True)


def test_the_saturation_penalty_keeps_the_policy_inside_the_tanh() -> None:
    batch = TensorDict({"observation": torch.randn(16, 3)}, [16])
    share, returns = {}, {}
    for saturation in (0.0, 1.0):
        torch.manual_seed(0)
        settings = {"horizon": 2, "gamma": 0.5, "critic_splits": 1, "critic_epochs": 1}
        config = PWMConfig.paper(actor_lr=0.03, saturation=saturation, **settings)
        pwm = assemble(Uphill(), None, config)
        history = [pwm.update(batch) for _ in range(100)]
        share[saturation] = float(history[-1]["saturated"])
        returns[saturation] = float(history[-1]["return"] - history[0]["return"])
    assert share[0.0] > 0.9
    assert share[1.0] < 0.1
    assert returns[1.0] > 0.5  # and still it learned to go uphill


def test_actions_that_do_not_exist_are_not_saturated() -> None:
    """All means are 3, but a mask of the actor or of the model says which of them are real."""
    model = small_model()  # task 0 has one action, task 1 two
    everything = TensorDict({"observation": torch.randn(4, 3), "task": torch.ones(4).long()}, [4])
    single = TensorDict({"observation": torch.randn(4, 3), "task": torch.zeros(4).long()}, [4])

    def share(batch: TensorDict, population: int | None = None, **settings) -> float:
        actor = FirstOrderActor.published(8, 2, (8,), population=population, **settings)
        for parameter in actor.net.parameters():
            nn.init.zeros_(parameter)
        with torch.no_grad():
            actor.net.head.bias[..., 1] = 3.0
        pwm = PWM(
            model,
            actor,
            Critic.published(8, (8,), 2, population=population),
            PWMConfig.paper(**FAST),
        )
        return float(pwm.update(batch)["saturated"])

    assert share(everything) == 0.5
    assert share(single) == 0.0
    assert share(everything, action_dims=[1]) == 0.0
    both = torch.stack((single, everything))
    assert share(both, 2, action_dims=[1, 2]) == pytest.approx(1 / 3)
    assert share(both, 2) == pytest.approx(1 / 3)


@pytest.mark.parametrize("population", [None, 2])
def test_the_critic_does_not_learn_from_states_behind_an_end(population: int | None) -> None:
    class Ends(Uphill):
        """Ends after the first step; a reward of 10^6 behind the end must not matter."""

        def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
            later = (latent[..., :1] > 50).float()
            reward = 0 * action.sum(-1, keepdim=True) + 1 + 1e6 * later
            return latent + 100.0, reward, torch.ones_like(reward, dtype=torch.bool)

    config = PWMConfig.paper(horizon=3, gamma=0.5, critic_epochs=1, critic_splits=1)
    pwm = assemble(Ends(), population, config)
    for parameter in pwm.critic.parameters():
        nn.init.zeros_(parameter)
    lead = (4,) if population is None else (2, 4)
    metrics = pwm.update(TensorDict({"observation": torch.zeros(*lead, 3)}, lead))
    assert float(metrics["value_loss"]) == pytest.approx(1.0)  # the only target is 1


def test_the_behaviour_guard_stays_with_the_data() -> None:
    # Uphill wants actions of 1, the data has -1/2.
    data = {"observation": torch.randn(16, 3, 3), "action": torch.full((16, 2, 2), -0.5)}
    batch = TensorDict(data, [16])
    means = {}
    for behaviour in (0.0, 100.0):
        torch.manual_seed(0)
        settings = {"horizon": 2, "gamma": 0.5, "critic_splits": 1, "critic_epochs": 1}
        config = PWMConfig.paper(actor_lr=0.03, behaviour=behaviour, **settings)
        pwm = assemble(Uphill(), None, config)
        for _ in range(100):
            pwm.update(batch)
        with torch.no_grad():
            means[behaviour] = float(pwm.actor(data["observation"][:, 0]).mean())
    assert means[0.0] > 0.5
    assert means[100.0] == pytest.approx(-0.5, abs=0.1)


def test_target_and_average_follow_slowly_by_hand() -> None:
    config = PWMConfig.paper(**FAST, target_tau=0.25, average_tau=0.4)
    pwm = assemble(small_model(), None, config)
    target, average = (next(m.parameters()).clone() for m in (pwm.target, pwm.average))
    for update in (1, 2, 3):
        pwm.update(starts(6))
        critic, actor = (next(m.parameters()).detach() for m in (pwm.critic, pwm.actor))
        target = target + 0.25 * (critic - target)
        torch.testing.assert_close(next(pwm.target.parameters()), target)
        # The average starts as a plain mean: shares 1, 1/2, then never below 0.4.
        average = average + max(0.4, 1 / update) * (actor - average)
        torch.testing.assert_close(next(pwm.average.parameters()), average)
    assert not any(p.requires_grad for m in (pwm.target, pwm.average) for p in m.parameters())


def test_the_target_bootstraps_by_hand() -> None:
    class Barren(Uphill):
        """No action is ever rewarded."""

        def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
            return latent, 0 * action.sum(-1, keepdim=True)

    config = PWMConfig.paper(horizon=1, gamma=0.5, critic_epochs=1, critic_splits=1, target_tau=0.1)
    pwm = assemble(Barren(), None, config)
    for module, value in ((pwm.critic, 0.0), (pwm.target, 10.0)):
        for parameter in module.parameters():
            nn.init.zeros_(parameter)
        nn.init.constant_(module.net.head.bias, value)
    # The critic says 0 where the target makes it 0 + .5 * 10.
    metrics = pwm.update(TensorDict({"observation": torch.randn(4, 3)}, [4]))
    assert float(metrics["value_loss"]) == pytest.approx(25.0)


def test_without_rates_target_and_average_are_the_networks_themselves() -> None:
    pwm = assemble(small_model(), None, PWMConfig.paper())
    assert pwm.target is pwm.critic
    assert pwm.average is pwm.actor


def test_state_dict_continues_to_the_bit() -> None:
    model, batches = small_model(), [starts(2, 5) for _ in range(4)]
    config = PWMConfig.paper(**FAST, target_tau=0.1, average_tau=0.1)

    def build(seed: int) -> PWM:
        scale, generator = ReturnScale(population=2), torch.Generator().manual_seed(seed)
        return assemble(model, 2, config, return_scale=scale, generator=generator)

    first, second = build(0), build(1)
    for batch in batches[:2]:
        first.update(batch)
    first.set_learning_rates(0.5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for batch in batches[2:]:
        ours, theirs = first.update(batch), second.update(batch)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for a, b in zip(weights_of(first), weights_of(second), strict=True):
        assert torch.equal(a, b)
    for name in ("target", "average"):
        for a, b in zip(
            getattr(first, name).parameters(), getattr(second, name).parameters(), strict=True
        ):
            assert torch.equal(a, b)
    assert second.updates == 4


class Replay:
    """Counts what `fit` asks for."""

    def __init__(self) -> None:
        self.asked: list = []

    def sample(self) -> TensorDict:
        self.asked.append("windows")
        return starts(6)

    def sample_starts(self, tasks, count: int) -> TensorDict:
        self.asked.append((list(tasks), count))
        return starts(len(tasks), count)


def test_fit_updates_with_falling_rates() -> None:
    replay, pwm = Replay(), assemble(small_model(), None, PWMConfig.paper(**FAST, actor_lr=1e-3))
    metrics = fit(pwm, replay, 4)
    assert replay.asked == ["windows"] * 4
    assert pwm.updates == 4
    assert "return" in metrics
    # The last of four updates ran three quarters of the way from 1 to 0.02 of the rate.
    assert pwm.actor_optimizer.param_groups[0]["lr"] == pytest.approx(0.265e-3)
    many = assemble(small_model(), 2, PWMConfig.paper(**FAST))
    fit(many, SimpleNamespace(sample=lambda: replay.sample_starts([0, 1], 5)), 1)
    assert replay.asked[-1] == ([0, 1], 5)


def test_errors_name_the_argument() -> None:
    model = small_model()
    actor, critic = FirstOrderActor.published(8, 2, (8,), population=2), Critic.published(8, (8,))
    with pytest.raises(ValueError, match="critic must have the actor's population 2, got None"):
        PWM(model, actor, critic)
    with pytest.raises(ValueError, match=r"gamma must lie in \[0, 1\], got 1.5"):
        assemble(model, None, PWMConfig.paper(gamma=1.5))
    with pytest.raises(ValueError, match=r"gamma must be one number or one per policy \(2\)"):
        assemble(model, 2, PWMConfig.paper(gamma=(0.9, 0.9, 0.9)))
    with pytest.raises(ValueError, match="horizon must be at least 1, got 0"):
        assemble(model, None, PWMConfig.paper(horizon=0))
    two = assemble(model, 2, PWMConfig.paper(**FAST))
    with pytest.raises(ValueError, match=r"observation must have shape \[2, B, O\], got \[3,"):
        two.update(starts(3, 5))


def test_observations_that_are_not_finite_step_nothing() -> None:
    pwm, batch = assemble(small_model(), None, PWMConfig.paper(**FAST)), starts(6)
    batch["observation"][0, 0] = torch.nan
    before = weights_of(pwm)
    with pytest.raises(ValueError, match="imagined returns must be finite"):
        pwm.update(batch)
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(pwm), strict=True))
