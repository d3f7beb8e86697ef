"""Planning remembers per environment, and respects masks, ends, tasks and bounds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pwm_sdk.contract.policies import Policy
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.policy_prior import PolicyPrior
from pwm_sdk.models.q_ensemble import QEnsemble
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.planner import MPPI, PolicyValue
from pwm_sdk.planner.mppi import CHOICES
from pwm_sdk.rollout import LatentRollout


class Walk:
    """The action moves the first of two numbers, whose square is the cost."""

    latent_dim, action_dim = 2, 1

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return observation

    def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
        following = latent + action * torch.tensor([1.0, 0.0])
        return following, -following[..., :1].square()


def zero(latent: Tensor) -> Tensor:
    """A value of 0, or an action of 0 for one action."""
    return torch.zeros_like(latent[..., :1])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


STARTS = torch.tensor([[0.3, 0.0], [-0.2, 0.4]])


def test_rewards_of_any_size_give_a_plan() -> None:
    class Huge(Walk):
        def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
            following, reward = super().step(latent, action)
            return following, 1e20 * reward

    action = MPPI(Huge(), zero, zero, generator=seeded()).plan(STARTS)
    torch.testing.assert_close(action, -STARTS[:, :1], atol=0.15, rtol=0)


class Ending:
    """A reward of 1 a step, which ends with the first action above 0; the value is 100."""

    latent_dim = action_dim = 1

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return observation

    def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
        return latent, torch.ones_like(action), action > 0


def test_returns_of_candidates_by_hand() -> None:
    planner = MPPI(Ending(), zero, zero, horizon=3, gamma=0.5)
    actions = torch.tensor([[-1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [1.0, 1.0, 1.0]]).view(
        1, 3, 3, 1
    )
    latent = torch.zeros(1, 3, 1)
    value = planner._evaluate(latent, actions, None, 0.5, lambda z: z + 100.0)
    # 1 + .5 + .25 + 12.5, then 1 + .5, then 1.
    assert value.flatten().tolist() == [14.25, 1.5, 1.0]


class Still(Walk):
    """The latent is a target that stays; reward -(a - z)^2."""

    latent_dim = 1

    def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
        return latent, -(action - latent).square()


def test_plans_are_kept_per_environment_until_reset() -> None:
    targets = torch.tensor([[0.5], [-0.5]])
    planner = MPPI(Still(), zero, zero, horizon=2, temperature=100.0, generator=seeded())
    planner.plan(targets)
    kept = planner.mean.clone()
    torch.testing.assert_close(kept[:, :, 0], targets.expand(2, 2), atol=0.1, rtol=0)
    planner.reset(0)
    assert not planner.mean[0].any()
    assert torch.equal(planner.mean[1], kept[1])
    # The next search starts from the old mean, shifted by one: with no spread it stays there.
    planner.std, planner.policy_samples = (1e-6, 1e-6), 0
    planner.plan(targets)
    expected = torch.stack((torch.zeros(2), torch.stack((kept[1, 1, 0], torch.tensor(0.0)))))
    torch.testing.assert_close(planner.mean[..., 0], expected, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match=r"observation must have 2 rows, as before.*got 1"):
        planner.plan(targets[:1])
    planner.reset()
    assert planner.plan(targets[0]).shape == (1,)


def test_environments_do_not_mix() -> None:
    """Each row is planned as alone; only the draws differ, so the optimum is the same."""
    planner = MPPI(Still(), zero, zero, horizon=1, temperature=1000.0, iterations=8,
                   std=(0.005, 2.0), generator=seeded())  # fmt: skip
    targets = torch.linspace(-0.9, 0.9, 7).unsqueeze(1)
    torch.testing.assert_close(planner.plan(targets), targets, atol=0.03, rtol=0)


def test_exploration_adds_noise_and_stays_in_bounds() -> None:
    settings = {"horizon": 1, "temperature": 1000.0, "std": (0.3, 2.0), "iterations": 8}
    planner = MPPI(Still(), zero, zero, generator=seeded(), **settings)
    targets = torch.full((400, 1), 0.9)
    explored = planner.plan(targets, choice="explore")
    assert float(explored.max()) == 1.0
    assert 0.15 < float(explored.std()) < 0.35
    planner.reset()
    assert float(planner.plan(targets).std()) < 0.05


def world_model(**settings) -> WorldModel:
    sizes = {"task_dim": 4, "latent_dim": 8, "simnorm_size": 4, "hidden": (16,)}
    model = WorldModel.published(3, 2, encoder_hidden=(16,), **sizes, **settings)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


FAST = {"samples": 24, "elites": 6, "policy_samples": 4, "iterations": 2}


def test_tasks_reach_model_policy_and_value_and_masks_hold() -> None:
    model = world_model(num_tasks=2, action_dims=[1, 2])
    seen: list[Tensor] = []

    class Goal:
        """The value of being told the right task: `given` hands the embedding over."""

        action_dim = 2

        def given(self, context):
            seen.append(context.embedding)
            return lambda latent: latent[..., :1] + context.embedding[..., :1]

    task = torch.tensor([0, 1, 0])
    planner = MPPI(model, FirstOrderActor.published(8, 2, (8,)), Goal(), gamma=(0.9, 0.5), **FAST)
    action = planner.plan(torch.randn(3, 3), task, choice="explore")
    assert torch.equal(seen[0][:, 0], model.context(task).embedding)
    assert action[0, 1] == action[2, 1] == 0.0
    assert action[1, 1] != 0.0
    torch.testing.assert_close(planner._gamma(task).flatten(), torch.tensor([0.9, 0.5, 0.9]))
    assert planner.plan(torch.randn(3, 3), 1).shape == (3, 2)
    narrow = FirstOrderActor.published(
        8, 1, (8,)
    )  # padded where the model has tasks, and only there
    assert float(MPPI(model, narrow, zero, **FAST).plan(torch.randn(3), 0)[1]) == 0.0
    with pytest.raises(ValueError, match=r"action must have the model's size 2, got .*, 1\]"):
        MPPI(world_model(), narrow, zero, **FAST).plan(torch.randn(3))


def test_a_planner_is_a_policy_without_memory() -> None:
    planner = MPPI(Still(), zero, zero, horizon=1, temperature=1000.0, iterations=8,
                   std=(0.005, 2.0), generator=seeded())  # fmt: skip
    assert isinstance(planner, Policy)
    targets = torch.tensor([[[0.5], [-0.5]]])
    torch.testing.assert_close(planner(targets), targets, atol=0.03, rtol=0)
    assert planner.mean is None
    trajectory = LatentRollout(Still(), planner, 2)(targets[0])
    torch.testing.assert_close(trajectory["action"][:, 1], targets[0], atol=0.03, rtol=0)
    model = world_model(num_tasks=2)
    many = MPPI(model, FirstOrderActor.published(8, 2, (8,)), Critic.published(8, (8,)), **FAST)
    assert many.given(model.context(torch.tensor([0, 1])))(torch.rand(2, 8)).shape == (2, 2)


@pytest.mark.parametrize("lead", [(3,), (2, 3)])
def test_a_planner_with_a_discount_for_each_task_is_a_policy_in_a_rollout(lead: tuple) -> None:
    model, task = world_model(num_tasks=2), torch.tensor([0, 1, 0]).expand(lead)
    start = torch.rand(*lead, 8)
    parts = FirstOrderActor.published(8, 2, (8,)), Critic.published(8, (8,))
    planner = MPPI(model, *parts, gamma=[0.9, 0.5], **FAST)
    planner._draws.generator = seeded()
    action = LatentRollout(model, planner, 2)(start, task)["action"][..., 0, :]
    planner._draws.generator = seeded()
    rows = start.reshape(-1, 8)
    context = model.context(task.reshape(-1))
    expected = planner._search(rows, context, None, planner._gamma(task.reshape(-1)), "mean")[1]
    torch.testing.assert_close(action.reshape(-1, 2), expected)
    own = model.context(task)._replace(task=None)
    with pytest.raises(ValueError, match="as task of the context"):
        planner.given(own)(start)


def test_a_plan_made_without_gradients_can_be_forgotten_later() -> None:
    planner = MPPI(Still(), zero, zero, **FAST)
    with torch.inference_mode():
        planner.plan(torch.tensor([[0.5], [-0.5]]))
    planner.reset(0)
    assert not planner.mean[0].any()
    assert planner.mean[1].any()


def test_the_same_seed_gives_the_same_plan() -> None:
    model, observation = world_model(), torch.randn(2, 3)
    actor, critic = FirstOrderActor.published(8, 2, (8,)), Critic.published(8, (8,))
    plans = [
        MPPI(model, actor, critic, generator=seeded(seed)).plan(observation) for seed in (1, 1, 2)
    ]
    assert torch.equal(plans[0], plans[1])
    assert not torch.equal(plans[0], plans[2])


@pytest.mark.parametrize("choice", CHOICES)
def test_the_seed_alone_decides_on_a_plan_with_q_functions(choice: str) -> None:
    model, observation = world_model(num_tasks=2), torch.randn(2, 3)
    q, prior = QEnsemble.for_model(model, ensemble=5), PolicyPrior.for_model(model)
    for parameter in (*q.parameters(), *prior.parameters()):
        nn.init.normal_(parameter, std=0.5)
    value = PolicyValue(q.eval(), prior)
    plans = []
    for global_seed, seed in ((0, 1), (5, 1), (6, 1), (0, 2)):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        planner = MPPI(model, prior, value, generator=seeded(seed), **FAST)
        plans.append(planner.plan(observation, torch.tensor([0, 1]), choice=choice))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(plans[0], plans[1])
    assert torch.equal(plans[0], plans[2])
    assert not torch.equal(plans[0], plans[3])
    context, end = model.context(torch.tensor([0, 1])), torch.zeros(2, 8)
    own = [PolicyValue(q, prior, seeded(9)).given(context)(end) for _ in range(2)]
    assert torch.equal(*own)


@pytest.mark.parametrize(("settings", "rounds"), [({}, 6), ({"iterations": 8}, 8)])
def test_many_action_dimensions_take_no_more_rounds_than_given(settings, rounds, monkeypatch):
    class Wide(Still):
        latent_dim = action_dim = 20

        def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
            return latent, -(action - latent).square().sum(-1, keepdim=True)

    planner, calls = MPPI(Wide(), zero, zero, horizon=1, policy_samples=0, **settings), []
    evaluate = planner._evaluate
    monkeypatch.setattr(planner, "_evaluate", lambda *x: calls.append(1) or evaluate(*x))
    assert planner.plan(torch.zeros(1, 20)).shape == (1, 20)
    assert len(calls) == rounds


def test_the_value_of_a_policy_by_hand() -> None:
    class Shift:
        action_dim = 1

        def sample(self, latent: Tensor, noise: Tensor) -> Tensor:
            return latent + 0 * noise

    class Product:
        def given(self, context, generator):
            return lambda latent, action: context * latent * action

    value = PolicyValue(Product(), Shift()).given(torch.tensor(10.0))
    assert value(torch.tensor([[2.0], [3.0]])).tolist() == [[40.0], [90.0]]
    plain = PolicyValue(lambda latent, action: latent - action, lambda latent: 0.5 * latent)
    assert plain(torch.tensor([[2.0]])).tolist() == [[1.0]]


def test_errors_name_the_argument() -> None:
    wrong = [
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"elites": 0}, "elites must be at least 1, got 0"),
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"elites": 9, "samples": 8}, "elites must be at most samples 8, got 9"),
        ({"policy_samples": 513}, r"policy_samples must lie in 0..512, got 513"),
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"std": (0.5, 0.1)}, "std must satisfy 0 < smallest <= largest, got"),
        ({"gamma": (0.9, 1.1)}, r"gamma must lie in \[0, 1\], got"),
    ]
    for settings, message in wrong:
        with pytest.raises(ValueError, match=message):
            MPPI(Still(), zero, zero, **settings)
    planner = MPPI(Still(), zero, zero, gamma=(0.9, 0.5), **FAST)
    with pytest.raises(ValueError, match=r"observation must have shape \[N, O\] or \[O\], got"):
        planner.plan(torch.zeros(1, 1, 1))
    with pytest.raises(ValueError, match=r"task must be one id or have shape \[3\], got \[2\]"):
        planner.plan(torch.zeros(3, 1), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="task must be given where every task has its own gamma"):
        planner.plan(torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"choice must be one of .*, got 'best'"):
        planner.plan(torch.zeros(3, 1), 0, choice="best")
    with pytest.raises(ValueError, match=r"values of candidates must be finite, got none that is"):
        planner.plan(torch.full((3, 1), torch.nan), 0)
