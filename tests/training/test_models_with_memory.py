"""Models with memory drive PWM through the loop, the collector and the evaluation of all others."""

from __future__ import annotations

import ast
import copy
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from pwm_sdk.algorithms.dreamer_v3_config import DreamerV3Config
from pwm_sdk.algorithms.pwm import PWM
from pwm_sdk.algorithms.pwm_config import PWMConfig
from pwm_sdk.algorithms.return_scales import ReturnScale
from pwm_sdk.algorithms.rssm_model import RSSMModel
from pwm_sdk.contract.checks import check_latent_model
from pwm_sdk.data.replay import ReplayBuffer
from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.planner.mppi import MPPI
from pwm_sdk.policies.policy import ObservationPolicy
from pwm_sdk.training.evaluate import evaluate
from pwm_sdk.training.online import GrowingBatch
from pwm_sdk.training.settings import Learner, RoundConfig

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def example(name: str) -> dict[str, Any]:
    """Return the classes of an example, without what it runs."""
    tree = ast.parse((EXAMPLES / name).read_text(encoding="utf-8"))
    kept = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom, ast.ClassDef))]
    found: dict[str, Any] = {}
    exec(compile(ast.Module(kept, []), name, "exec"), found)
    return found


class Slider(gymnasium.Env):
    """A mass without friction should rest at 0; it shows where it is, not how fast it goes."""

    observation_space = gymnasium.spaces.Box(-10.0, 10.0, (1,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self) -> None:
        self.np_random = np.random.default_rng(0)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.place, self.speed = self.np_random.uniform(-1.0, 1.0, 2)
        self.left = 50
        return np.array([self.place], np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.speed += 0.3 * float(action[0])
        self.place = float(np.clip(self.place + 0.3 * self.speed, -10.0, 10.0))
        self.left -= 1
        seen = np.array([self.place], np.float32)
        return seen, -abs(self.place), False, self.left == 0, {}


def gru() -> Any:
    return example("06_model_with_memory.py")["GRUModel"](1, 1, 32)


def transformer() -> Any:
    return example("07_transformer_model.py")["TransformerModel"](1, 1, rows=4)


def rssm() -> Any:
    sizes = {"hidden": 32, "belief": 32, "blocks": 4, "categoricals": 4, "classes": 4, "bins": 41}
    return RSSMModel(1, 1, DreamerV3Config(**sizes))


def memoryless() -> Any:
    sizes = {"latent_dim": 32, "hidden": (64, 64), "encoder_hidden": (64,), "activation": "silu"}
    return WorldModel(1, 1, num_bins=0, standardize=True, **sizes)


def loop(model: Any, population: int | None = None, **rounds: int) -> GrowingBatch:
    """A growing batch on the slider."""
    nets: dict[str, Any] = {"hidden": (64, 64), "activation": "silu", "norm": "pre_activation"}
    nets["population"] = population
    size = model.latent_dim
    noise = {"learn_std": False, "noise": "post_tanh", "output_gain": 0.1}
    actor = FirstOrderActor(size, 1, **noise, **nets)
    critic = Critic(size, ensemble=2, reduce="mean", scale=10.0, output_gain=0.01, **nets)
    config = PWMConfig.paper(
        horizon=10, gamma=0.95, actor_lam=0.95, saturation=0.1, critic_lr=1e-3, critic_epochs=1,
        critic_splits=1, target_tau=0.01, betas=(0.9, 0.999),
    )  # fmt: skip
    pwm = PWM(model, actor, critic, config, return_scale=ReturnScale(population))
    return GrowingBatch(
        EnvPool([Slider()]), model, torch.optim.Adam(model.parameters(), lr=1e-3),
        [Learner(pwm, [0], 32)], ReplayBuffer(20_000, slice_len=9, batch_size=64, seed=1),
        RoundConfig(**rounds), reward_scale=[1.0], lengths=[50], episodes=[2],
    )  # fmt: skip


MODELS = {"gru": gru, "rssm": rssm, "transformer": transformer}


@pytest.mark.parametrize("population", [None, 1])
@pytest.mark.parametrize("name", MODELS)
def test_each_trains_and_drives_pwm(name: str, population: int | None) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    check_latent_model(model, torch.randn(4, 1))
    growing = loop(model, population, updates=4, first_updates=4)
    growing.collect_seed([3])
    batch = growing.replay.sample(256)
    before = loss(model, batch)
    actor = growing.learners[0].pwm.actor
    start = [p.detach().clone() for p in actor.parameters()]
    for progress in (0.1, 0.2, 0.3):
        report = growing.run_round(progress)
    growing.improve(30)
    assert loss(model, batch) < before
    assert all(np.isfinite(list(report.metrics.values())))
    assert all(np.isfinite(column).all() for column in report.alarms.values())
    assert any(not torch.equal(a, b) for a, b in zip(start, actor.parameters(), strict=True))
    policy = actor if population is None else actor.member(0)
    assert evaluate(Slider(), ObservationPolicy(policy, model=model), episodes=1)["episodes"] == 1
    planner = MPPI(model, policy, growing.learners[0].pwm.critic if population is None else zero,
                   horizon=2, samples=8, elites=4, policy_samples=2, iterations=1)  # fmt: skip
    assert np.isfinite(evaluate(Slider(), ObservationPolicy(planner), episodes=1)["return"])


def loss(model: Any, batch: Any) -> float:
    """Return the loss on a batch, averaged over what an RSSM draws."""
    return float(torch.stack([model.loss(batch)[0].detach() for _ in range(4)]).mean())


def zero(latent: torch.Tensor) -> torch.Tensor:
    """Return a value of nothing."""
    return torch.zeros_like(latent[..., :1])


@pytest.mark.slow
def test_memory_beats_none_where_speed_is_hidden() -> None:
    returns = {}
    for name, made in (("gru", gru), ("memoryless", memoryless)):
        torch.manual_seed(0)
        growing = loop(made(), first_updates=100, updates=25)
        growing.collect_seed([10])
        for i in range(12):
            growing.run_round(progress=i / 12)
        actor = growing.learners[0].pwm.actor
        policy = ObservationPolicy(actor, model=growing.model)
        returns[name] = evaluate(Slider(), policy, episodes=50)["return"]
    assert returns["gru"] > 0.5 * returns["memoryless"], returns  # costs: half of them


def test_a_planner_remembers_each_environment_and_forgets_where_it_is_told() -> None:
    """A copy that is reset shares no memory with the planner it was made from."""
    torch.manual_seed(0)
    model, seen = gru(), torch.randn(3, 2, 1)
    settings = {"horizon": 2, "samples": 8, "elites": 4, "policy_samples": 0, "iterations": 1}
    planner = MPPI(model, zero, zero, generator=torch.Generator().manual_seed(0), **settings)
    met: list[torch.Tensor] = []
    whole = planner._search
    planner._search = lambda z, *rest: (met.append(z), whole(z, *rest))[1]  # pyright: ignore
    first = planner.plan(seen[0])
    planner.reset(1)
    other = copy.copy(planner)
    other.reset()
    other.plan(seen[2])
    planner.plan(seen[1])
    begins = torch.tensor([[False], [True]])
    expected = model.observe(model.encode(seen[0]), first, seen[1], begins)
    assert torch.allclose(met[-1], expected)
    assert torch.allclose(met[1], model.encode(seen[2]))


def test_a_policy_remembers_by_its_model_until_it_is_reset(tmp_path) -> None:
    torch.manual_seed(0)
    model, actor, seen = gru(), FirstOrderActor(32, 1, (4,)), torch.randn(2, 2, 1)
    policy = ObservationPolicy(actor, model=model)
    first = policy.act(seen[0])
    latent = model.encode(seen[0])
    policy.reset(1)
    begins = torch.tensor([[False], [True]])
    expected = actor(model.observe(latent, first, seen[1], begins))
    torch.testing.assert_close(policy.act(seen[1]), expected.detach())
    policy.reset()
    torch.testing.assert_close(policy.act(seen[0]), first)
    assert policy.remembers
    for name, done in ((policy.save, "saved"), (policy.export, "exported")):
        with pytest.raises(ValueError, match=f"to be {done}, got one that remembers"):
            name(tmp_path / "policy.pt2")
