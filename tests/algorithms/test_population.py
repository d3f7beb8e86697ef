"""Members of a population learn as they would alone, end one by one and are kept one by one."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pwm_sdk.algorithms.population import Population, join_members
from pwm_sdk.algorithms.pwm import PWM, PWMConfig
from pwm_sdk.algorithms.return_scales import ReturnDeviation, ReturnScale
from pwm_sdk.execution.settings import Execution
from pwm_sdk.generators import Generators
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.world_model import WorldModel

TASKS, SEEDS, RATES, GAMMA = (0, 1, 1), (5, 5, 6), (1.0, 0.5, 2.0), (0.9, 0.99, 0.95)
SMALL = {"horizon": 3, "critic_epochs": 2, "critic_splits": 2, "actor_lr": 1e-3, "critic_lr": 2e-3}
SLOW = {"target_tau": 0.1, "average_tau": 0.1}
PARTS = ("actor", "critic", "target", "average")
CLOSE = {"atol": 2e-5, "rtol": 1e-4}


def make_model() -> WorldModel:
    model = WorldModel.published(
        3, 2, num_tasks=2, task_dim=4, latent_dim=8, hidden=(16,), encoder_hidden=(16,),
        simnorm_size=4, action_dims=[1, 2],
    )  # fmt: skip
    nn.init.normal_(model.reward_head[-1].weight)
    return model


def networks(members: Sequence[int]) -> tuple[list[FirstOrderActor], list[Critic]]:
    """Single networks, the same for the same member; member 2 has a smaller mask and unit."""
    actors, critics = [], []
    for i in members:
        torch.manual_seed(i)
        actors.append(
            FirstOrderActor.published(8, 2, (8,), action_dims=[1 if i == 2 else 2], std=0.3 + i)
        )
        critics.append(Critic.published(8, (8,), 2, scale=1.0 + i))
    return actors, critics


def make_population(model: WorldModel, members: Sequence[int], **settings) -> Population:
    """Some of the three policies at once."""
    actors, critics = networks(members)
    config = PWMConfig.paper(**{**SMALL, "gamma": [GAMMA[i] for i in members], **settings})
    scale = None if config.return_scale == "deviation" else ReturnScale(len(members))
    return Population(
        model,
        FirstOrderActor.stack(actors),
        Critic.stack(critics),
        config,
        seeds=[SEEDS[i] for i in members],
        rates=[RATES[i] for i in members],
        return_scale=scale,
    )


def make_alone(model: WorldModel, member: int, **settings) -> PWM:
    """One of the three policies as a plain `PWM`."""
    (actor,), (critic,) = networks([member])
    rates = {name: SMALL[name] * RATES[member] for name in ("actor_lr", "critic_lr")}
    config = PWMConfig.paper(**{**SMALL, **rates, "gamma": GAMMA[member], **settings})
    generator = torch.Generator().manual_seed(SEEDS[member])
    scale = None if config.return_scale == "deviation" else ReturnScale()
    return PWM(model, actor, critic, config, return_scale=scale, generator=generator)


def batches(count: int) -> list[TensorDict]:
    """Starts of the three policies."""
    generator = torch.Generator().manual_seed(9)
    task = torch.tensor(TASKS)[:, None].expand(3, 5)
    return [
        TensorDict({"observation": torch.randn(3, 5, 3, generator=generator), "task": task}, [3, 5])
        for _ in range(count)
    ]


def of_member(part: nn.Module, index: int) -> dict[str, Tensor]:
    return {name: value[index] for name, value in part.state_dict().items()}


def check_member(together: Population, index: int, alone: PWM) -> None:
    """Compare networks, and gradients of the last actor step and of the last critic step."""
    for name in PARTS:
        own = dict(getattr(alone, name).state_dict())
        torch.testing.assert_close(of_member(getattr(together, name), index), own, **CLOSE)
    for ours, theirs in ((together.actor, alone.actor), (together.critic, alone.critic)):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            if a.grad is not None or b.grad is not None:
                torch.testing.assert_close(a.grad[index], b.grad, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("published", [False, True])
def test_every_member_learns_as_a_pwm_alone(published: bool) -> None:
    """Tasks, masks, units, scales, discounts, rates and noise all differ between members."""
    model = make_model()
    preset = PWMConfig.published().__dict__ if published else {"lam": 0.9, "saturation": 0.1}
    preset = {**preset, **SLOW, "shuffle": False, "actor_max_norm": 0.05, "critic_max_norm": 0.5}
    for name in (*SMALL, "gamma"):
        preset.pop(name, None)
    together = make_population(model, (0, 1, 2), **preset)
    assert isinstance(together.return_scale, ReturnDeviation if published else ReturnScale)
    members = [make_alone(model, i, **preset) for i in range(3)]
    for batch in batches(5):
        metrics = together.update(batch)
        for i, alone in enumerate(members):
            own = alone.update(batch[i])
            for name in ("return", "actor_grad_norm", "critic_grad_norm"):
                torch.testing.assert_close(metrics[name][i], own[name], atol=1e-4, rtol=1e-3)
    for i, alone in enumerate(members):
        check_member(together, i, alone)
    first, other = together.actor.net.head.weight[0], together.actor.net.head.weight[1]
    assert not torch.allclose(first, other, atol=1e-2)


def test_with_shuffled_minibatches_members_learn_as_populations_of_one() -> None:
    model = make_model()
    together = make_population(model, (0, 1, 2), **SLOW)
    members = [make_population(model, (i,), **SLOW) for i in range(3)]
    for batch in batches(4):
        together.update(batch)
        for i, alone in enumerate(members):
            alone.update(batch[i : i + 1])
    for i, alone in enumerate(members):
        for name in PARTS:
            ours, own = of_member(getattr(together, name), i), of_member(getattr(alone, name), 0)
            torch.testing.assert_close(ours, own, **CLOSE)


def test_the_others_change_nothing() -> None:
    model, results = make_model(), []
    for spoiled in (False, True):
        together = make_population(model, (0, 1, 2))
        for batch in batches(3):
            if spoiled:
                batch["observation"][1:] *= -3.0
            together.update(batch)
        results.append(of_member(together.actor, 0))
    assert all(torch.equal(a, results[1][name]) for name, a in results[0].items())


def test_members_end_one_by_one_and_the_rest_goes_on() -> None:
    model, data = make_model(), batches(6)
    through, shrinking = (make_population(model, (0, 1, 2), **SLOW) for _ in range(2))
    for number, batch in enumerate(data):
        through.update(batch)
        if number == 3:
            shrinking.keep([2, 0])
            assert shrinking.population == len(shrinking.streams) == 2
            assert shrinking.actor.settings["action_dims"] == [1, 2]
            assert shrinking.config.gamma == [GAMMA[2], GAMMA[0]]
        if number == 5:
            shrinking.keep([1])
        now = {0: [0, 1, 2], 1: [2, 0], 2: [0]}[(number > 2) + (number > 4)]
        shrinking.update(batch[now])
    assert shrinking.updates == 6
    for name in PARTS:
        ours, own = of_member(getattr(shrinking, name), 0), of_member(getattr(through, name), 0)
        torch.testing.assert_close(ours, own, **CLOSE)
    with pytest.raises(ValueError, match=r"members must be named, each once, got \[\]"):
        shrinking.keep([])


def test_members_are_kept_alone_and_go_on_in_another_population() -> None:
    model, data = make_model(), batches(4)
    first = make_population(model, (0, 1, 2), **SLOW)
    for batch in data[:2]:
        first.set_learning_rates(0.5)
        first.update(batch)
    kept = copy.deepcopy([first.member_state(i) for i in range(3)])
    assert kept[1]["actor"]["log_std"].shape[0] == 1
    second = make_population(model, (2, 1), **SLOW)
    second.load_members([kept[2], kept[1]])
    assert second.updates == 2
    for batch in data[2:]:
        first.update(batch)
        second.update(batch[[2, 1]])
    for name in PARTS:
        for here, there in ((0, 2), (1, 1)):
            own = of_member(getattr(first, name), there)
            torch.testing.assert_close(of_member(getattr(second, name), here), own, **CLOSE)
    with pytest.raises(ValueError, match=r"updates must be equal .* got \[2, 4\]"):
        join_members([kept[0], first.member_state(1)])


def test_keeping_draws_no_random_numbers() -> None:
    population = make_population(make_model(), (0, 1, 2))
    before = torch.get_rng_state()
    population.member_state(1)
    population.actor.member(1)
    population.keep([1])
    assert torch.equal(torch.get_rng_state(), before)


def test_graphs_that_cannot_be_are_told_of_once() -> None:
    actors, critics = networks((0, 1, 2))
    stacks = FirstOrderActor.stack(actors), Critic.stack(critics)
    execution = Execution(cuda_graphs=True, precision="bf16", check_every=7)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        pwm = Population(
            make_model(), *stacks, PWMConfig.paper(**SMALL), seeds=SEEDS, execution=execution
        )
        pwm.keep([0, 2])
        pwm.keep([1])
    assert [str(one.message) for one in told] == [
        "cuda_graphs=True needs a GPU, got parameters on cpu: running without"
    ]
    assert pwm.execution == Execution(precision="bf16", check_every=7)
    assert pwm.population == 1


def test_a_rate_of_zero_stands_still() -> None:
    model = make_model()
    actors, critics = networks((0, 1))
    stacks = FirstOrderActor.stack(actors), Critic.stack(critics)
    pwm = Population(model, *stacks, PWMConfig.paper(**SMALL), seeds=[0, 1], rates=[0.0, 1.0])
    before = copy.deepcopy(pwm.actor.state_dict())
    pwm.update(batches(1)[0][:2])
    for name, value in pwm.actor.state_dict().items():
        assert torch.equal(value[0], before[name][0])
        assert name == "log_std" or not torch.equal(value[1], before[name][1])


def test_streams_are_those_of_single_generators() -> None:
    together = Generators([3, 4])
    singles = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    for size in (5, 2):
        drawn = together.draw(lambda one, n=size: torch.rand(n, generator=one), axis=1)
        assert drawn.shape == (size, 2)
        for i, single in enumerate(singles):
            assert torch.equal(drawn[:, i], torch.rand(size, generator=single))
    state = together.get_state()
    ahead = together.draw(lambda one: torch.rand(3, generator=one))
    other = Generators([0])
    other.set_state(state[1:])
    assert len(other) == 1
    assert torch.equal(other.draw(lambda one: torch.rand(3, generator=one))[0], ahead[1])
    with pytest.raises(ValueError, match="seeds must have one entry per policy, got none"):
        Generators([])
    with pytest.raises(ValueError, match=r"state must have shape \[P, N\], got \[4\]"):
        other.set_state(torch.zeros(4, dtype=torch.uint8))


def test_errors_name_the_argument() -> None:
    model, (actors, critics) = make_model(), networks((0, 1))
    stacks = FirstOrderActor.stack(actors), Critic.stack(critics)
    with pytest.raises(ValueError, match=r"seeds must have one entry per policy \(2\), got 1"):
        Population(model, *stacks, seeds=[0])
    with pytest.raises(ValueError, match=r"rates must have one entry per policy \(2\), got 3"):
        Population(model, *stacks, seeds=[0, 1], rates=[1, 1, 1])
    with pytest.raises(ValueError, match=r"rates must be at least 0, got \[-1.0, 1.0\]"):
        Population(model, *stacks, seeds=[0, 1], rates=[-1, 1])
    with pytest.raises(ValueError, match="population must be given by the actor, got None"):
        Population(model, actors[0], critics[0], seeds=[0])
    with pytest.raises(ValueError, match="networks must not be empty"):
        Critic.stack([])
    with pytest.raises(ValueError, match=r"hidden must be \[8\] in all, got \[4\]"):
        Critic.stack([critics[0], Critic.published(8, (4,), 2)])
