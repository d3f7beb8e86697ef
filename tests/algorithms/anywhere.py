"""Everything that learns, loses, plans, samples or normalises, on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pwm_sdk import (
    MPPI,
    PPO,
    PWM,
    SAC,
    SHAC,
    TDMPC2,
    BehaviourCloning,
    Critic,
    Disagreement,
    DreamerV3,
    DreamerV3Config,
    Execution,
    FirstOrderActor,
    GrowingBatch,
    LatentBehaviour,
    LatentRollout,
    Learner,
    ObservationPolicy,
    PolicyPrior,
    PolicyValue,
    Population,
    PPOConfig,
    PWMConfig,
    QEnsemble,
    ReplayBuffer,
    ReturnScale,
    RoundConfig,
    RunningMeanStd,
    SACConfig,
    SHACConfig,
    TDMPC2Config,
    WorldModel,
    fit,
    make_episode,
    pwm_model_loss,
    world_model_errors,
    world_model_loss,
)  # fmt: skip
from pwm_sdk.simulators.mass_spring import MassSpring

Found = dict[str, Tensor]
PWM_CONFIG = {"horizon": 3, "critic_epochs": 1, "critic_splits": 2}
OURS = PWMConfig.paper(**PWM_CONFIG, target_tau=0.1, average_tau=0.1)
FREE = SACConfig(hidden=(8,), batch_size=4, random_steps=0)
EXPLORED = {"learn_std": False, "noise": "post_tanh"}


DREAM = DreamerV3Config(
    hidden=16, layers=1, belief=16, blocks=2, categoricals=2, classes=4, bins=15, horizon=3
)


def model(device: Any, tasks: int = 2, **settings: Any) -> WorldModel:
    sizes = {"task_dim": 4, "latent_dim": 16, "hidden": (8,), "encoder_hidden": (8,)}
    known = {"num_tasks": tasks, "action_dims": [1, 2]} if tasks else {}
    made = WorldModel(3, 2, **{**sizes, **known, "num_bins": 11, **settings})
    for layer in made.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    return made.to(device)


def networks(device: Any, population: int | None, **settings: Any) -> tuple[Any, Any]:
    dims = None if population is None else [1, 2]
    actor = FirstOrderActor(16, 2, (8,), population=population, action_dims=dims, **settings)
    return actor.to(device), Critic(16, (8,), 2, population=population).to(device)


def windows(device: Any, count: int = 8, horizon: int = 3) -> TensorDict:
    """Windows of data, whose numbers are the same on every device."""
    draws = torch.Generator().manual_seed(7)
    data = {
        "observation": torch.randn(count, horizon + 1, 3, generator=draws),
        "action": torch.rand(count, horizon, 2, generator=draws) * 2 - 1,
        "reward": torch.randn(count, horizon, 1, generator=draws),
        "task": torch.arange(count) % 2,
        "terminated": torch.rand(count, horizon, 1, generator=draws) > 0.9,
    }
    return TensorDict(data, [count]).to(device)


def starts(device: Any, population: int | None) -> TensorDict:
    batch = windows("cpu")
    if population is None:
        return batch.to(device)
    task = torch.arange(population).unsqueeze(1).expand(-1, 8)
    one = {"observation": batch["observation"][:, 0], "action": batch["action"][:, 0]}
    data = {name: value.expand(population, 8, -1) for name, value in one.items()}
    return TensorDict({**data, "task": task}, [population, 8]).clone().to(device)


class Windows:
    """A replay of one batch."""

    def __init__(self, batch: TensorDict) -> None:
        self.batch = batch

    def sample(self) -> TensorDict:
        return self.batch


def twice(agent: Any, batch: Any) -> Found:
    """The metrics of the second of two updates."""
    agent.update(batch)
    return agent.update(batch)


def numbers(agent: Any, batches: Any, updates: int | None = 2) -> Found:
    """The metrics that `fit` returns."""
    return {name: torch.tensor(v) for name, v in fit(agent, batches, updates).items()}


def pwm(
    population: int | None = None,
    config: PWMConfig = OURS,
    *,
    members: bool = False,
    keep: bool = False,
    guard: bool = False,
    execution: Execution | None = None,
    **settings: Any,
) -> Callable[[Any], Found]:
    def run(device: Any) -> Found:
        made: Any = model(device, **settings)
        made = Disagreement(made).to(device) if guard else made
        actor, critic = networks(device, population)
        scale = None if config.return_scale == "deviation" else ReturnScale(population).to(device)
        options: dict[str, Any] = {"return_scale": scale, "execution": execution}
        kind = Population if members else PWM
        options |= {"seeds": [3, 4], "rates": [1.0, 0.5]} if members else {}
        agent = kind(made, actor, critic, config, **options)
        batch = starts(device, population)
        agent.update(batch)
        metrics = agent.update(batch)
        agent.load_state_dict(agent.state_dict())
        if keep:
            agent.keep([1])
            agent.update(batch[1:])
        return {**metrics, **dict(agent.actor.named_parameters())}

    return run


def shac(device: Any) -> Found:
    simulator = MassSpring(2, 2, substeps=2, episode_length=5)
    size = simulator.observation_dim
    actor = FirstOrderActor(size, simulator.action_dim, (8,)).to(device)
    config = SHACConfig(environments=4, horizon=3, critic_epochs=1, cotangent_clip=1.0)
    normalizer = RunningMeanStd((size,)).to(device)
    critic = Critic(size, (8,), 1).to(device)
    return twice(SHAC(simulator, actor, critic, config, normalizer=normalizer), None)


def tdmpc2(tasks: int = 2, execution: Any = None, **settings: Any) -> Callable[[Any], Found]:
    def run(device: Any) -> Found:
        made = model(device, tasks, **settings)
        q = QEnsemble.for_model(made, ensemble=3, dropout=0.2).to(device)
        prior = PolicyPrior.for_model(made).to(device)
        config = TDMPC2Config(gamma=[0.9, 0.5] if tasks else 0.9)
        agent = TDMPC2(made, q, prior, config, execution=execution)
        return {**twice(agent, windows(device)), "value_scale": agent.scale}

    return run


def transitions(device: Any, *lead: int) -> TensorDict:
    draws = torch.Generator().manual_seed(5)
    seen, after = (torch.randn(*lead, 3, generator=draws) for _ in range(2))
    none = torch.zeros(*lead, 1, dtype=torch.bool)
    following = {"observation": after, "reward": after[..., :1], "terminated": none, "done": none}
    action = torch.rand(*lead, 2, generator=draws) * 2 - 1
    data = {"observation": seen, "action": action, "next": TensorDict(following, lead)}
    return TensorDict(data, lead).to(device)


def sac(device: Any) -> Found:
    agent = SAC(3, 2, FREE, device=device)
    batch = transitions(device, 6)
    drawn = agent.explore(batch["observation"])
    return {**agent.update(batch), "drawn": drawn, "mean": agent(batch["observation"])}


def sac_fit(device: Any) -> Found:
    """From data of the CPU, as environments make them."""
    agent = SAC(3, 2, FREE, device=device)
    return numbers(agent, agent.replayed([transitions("cpu", 2, 2)]), None)


def ppo(device: Any) -> Found:
    moments = {"observations": RunningMeanStd((3,)), "returns": RunningMeanStd((1,))}
    agent = PPO(3, 2, PPOConfig(hidden=(8,), epochs=1), **moments, device=device)
    drawn = agent.explore(transitions(device, 2)["observation"])
    return {**numbers(agent, [transitions("cpu", 2, 4)], None), "drawn": drawn}


def dreamer(device: Any) -> Found:
    agent = DreamerV3(3, 2, DREAM, device=device)
    metrics = twice(agent, windows(device))
    action, _ = agent.act(windows(device)["observation"][:, 0], explore=True)
    return {**metrics, "action": action}


def cloning(*, encoded: bool) -> Callable[[Any], Found]:
    def run(device: Any) -> Found:
        made = model(device) if encoded else None
        actor = FirstOrderActor(16 if encoded else 3, 2, (8,)).to(device)
        return twice(BehaviourCloning(actor, model=made), windows(device))

    return run


def behaviours(device: Any) -> Found:
    """All that turns arrays of environments into arrays of actions."""
    seen, found = np.linspace(-1.0, 1.0, 6, dtype=np.float32).reshape(2, 3), {}
    dream = DreamerV3(3, 2, DREAM, device=device)
    free = SAC(3, 2, SACConfig(hidden=(8,), random_steps=0), device=device)
    made, (actor, critic) = model(device), networks(device, None)
    team, _ = networks(device, 2)
    plan = MPPI(made, actor, critic, samples=8, elites=4, policy_samples=2, iterations=1)
    cloned = BehaviourCloning(FirstOrderActor(3, 2, (8,)).to(device))
    acting: dict[str, Any] = {
        "cloned": cloned.policy().behaviour([None, None]),
        "recurrent": dream.explorer().behaviour([None, None]),
        "observation": free.explorer().behaviour([None, None]),
        "planner": ObservationPolicy(plan).behaviour([0, 1]),
        "latent": LatentBehaviour(made, [actor], [0, 1]),
        "team": LatentBehaviour(made, [team], [0, 1], np.random.default_rng(0), 0.5),
    }
    for name, behaviour in acting.items():
        for _ in range(2):
            behaviour.start(1)
            found[name] = torch.from_numpy(behaviour(seen))
    return found


def losses(device: Any) -> Found:
    made, batch = model(device, episodic=True), windows(device)
    weight = torch.ones(2, device=device)
    loss = world_model_loss(made, batch, reward_weight=weight)
    loss.backward()
    errors = zip(("consistency", "reward"), world_model_errors(made, batch), strict=True)
    parts = zip(("dynamics", "rewards"), pwm_model_loss(made, batch), strict=True)
    gradient = made.encoder[0].weight.grad if hasattr(made.encoder, "__getitem__") else loss
    return {"loss": loss, **dict(errors), **dict(parts), "gradient": gradient}


def planner(device: Any) -> Found:
    made = model(device)
    q, prior = QEnsemble.for_model(made).to(device), PolicyPrior.for_model(made).to(device)
    plan = MPPI(
        made, prior, PolicyValue(q, prior), samples=16, elites=4, policy_samples=4, iterations=2,
        gamma=[0.9, 0.5],
    )  # fmt: skip
    seen, task = windows(device)["observation"][:2, 0], torch.arange(2, device=device)
    found = {choice: plan.plan(seen, task, choice=choice) for choice in ("mean", "elite")}
    plan.reset(0)
    return {**found, "explore": plan.plan(seen, task, choice="explore")}


def rollout(device: Any) -> Found:
    made = model(device, 0)
    actor, _ = networks(device, None)
    latent = made.encode(windows(device)["observation"][:, 0])
    return {"reward": LatentRollout(made, actor, 3)(latent)["next", "reward"]}


def normalizers(device: Any) -> Found:
    values = windows(device)["reward"].flatten()
    scale, moments = ReturnScale().to(device), RunningMeanStd().to(device)
    first, second = scale.update(values), scale.update(2 * values)
    moments.update(values.unsqueeze(-1))
    return {"first": first, "second": second, "normal": moments.normalize(values.unsqueeze(-1))}


def replay(device: Any) -> Found:
    kept = ReplayBuffer(100, 3, 4, device=device, seed=0)
    for task in (0, 1):
        seen = torch.arange(10.0).unsqueeze(1) + 20 * task
        episode = make_episode(seen, seen[1:] / 100, seen[1:], task)
        kept.add(episode.to(device))
    kept.load_state_dict(kept.state_dict())
    batch, rows = kept.sample(), kept.sample_starts([0, 1], 3)
    first = kept.starts([0, 1], 3, [1, 2]).sample()
    found = {f"sample {name}": value for name, value in batch.items()}
    found |= {"rows": rows["observation"], "first": first["observation"]}
    return found | kept.statistics(1)


def growing(where: Callable[[Any], Any] = lambda device: device) -> Callable[[Any], Found]:
    """Two rounds and a resumed one; `where` tells the replay's device by that of the networks."""

    def run(device: Any) -> Found:
        loop = make_loop(device, where(device))
        loop.collect_seed([2])
        reports = [loop.run_round(share) for share in (0.0, 0.5)]
        loop.load_state_dict(loop.state_dict())
        reports.append(loop.run_round(0.9))
        found = {f"{i} {k}": v for i, r in enumerate(reports) for k, v in r.metrics.items()}
        found |= {f"{i} {k}": v[0] for i, r in enumerate(reports) for k, v in r.alarms.items()}
        weight = float(loop.reward_weight[0])
        return {k: torch.tensor(float(v)) for k, v in {**found, "weight": weight}.items()}

    return run


class Line:
    """An `EnvPool` of one point on a line, which terminates beyond 1."""

    def __init__(self) -> None:
        self.draws, self.place, self.max_steps = np.random.default_rng(0), 0.0, None
        self.tasks, self.action_dims, self.names = [0], [2], ["line"]

    def __len__(self) -> int:
        return 1

    def _seen(self) -> np.ndarray:
        return np.asarray([self.place, 0.0, 1.0], np.float32)

    def reset_many(self, indices: Any, seeds: Any = None) -> list[np.ndarray]:
        for _ in indices:
            self.place = float(self.draws.uniform(-0.5, 0.5))
        return [self._seen() for _ in indices]

    def step_many(self, indices: Any, actions: np.ndarray) -> list[Any]:
        from pwm_sdk.contract.pools import PoolStep

        self.place += 0.3 * float(actions[0, 0])
        ended = abs(self.place) > 1.0
        return [PoolStep(self._seen(), -abs(self.place), False, ended, False)]

    def close(self) -> None:
        pass


def make_loop(device: Any, kept: Any, **options: Any) -> GrowingBatch:
    made = model(device, 1, action_dims=[2], num_bins=0, standardize=True, episodic=True)
    actor = FirstOrderActor(16, 2, (8,), **EXPLORED).to(device)
    agent = PWM(
        made, actor, Critic(16, (8,), 2).to(device), OURS, return_scale=ReturnScale().to(device)
    )
    return GrowingBatch(
        Line(),
        made,
        torch.optim.Adam(made.parameters(), lr=1e-3, fused=device == "cpu"),
        [Learner(agent, [0], starts=8)],
        ReplayBuffer(1000, 4, 8, seed=0, device=kept),
        RoundConfig(updates=2, first_updates=2),
        reward_scale=[1.0],
        lengths=[10],
        episodes=[2],
        **options,
    )


def offline(device: Any) -> Found:
    return numbers(PWM(model(device), *networks(device, None), OURS), Windows(windows(device)))


ANYWHERE: dict[str, Callable[[Any], Found]] = {
    "PWM": pwm(),
    "PWM, population with masks": pwm(2),
    "PWM, gammas of their own": pwm(2, PWMConfig.paper(**PWM_CONFIG, gamma=[0.9, 0.5])),
    "PWM, published": pwm(None, PWMConfig.published(horizon=3)),
    "PWM, published population": pwm(2, PWMConfig.published(horizon=3)),
    "PWM, episodic": pwm(episodic=True, action_dims=[1, 2]),
    "PWM, behaviour guard": pwm(None, PWMConfig.paper(**PWM_CONFIG, behaviour=0.1)),
    "PWM, disagreement": pwm(guard=True),
    "PWM, bf16": pwm(execution=Execution(precision="bf16")),
    "TDMPC2, bf16": tdmpc2(execution=Execution(precision="bf16")),
    "PWM, detached, lambda-returns": pwm(None, PWMConfig(**PWM_CONFIG, detach=True)),
    "Population": pwm(2, members=True),
    "SHAC": shac,
    "TDMPC2": tdmpc2(),
    "TDMPC2, one task": tdmpc2(0),
    "TDMPC2, episodic": tdmpc2(episodic=True),
    "BehaviourCloning": cloning(encoded=False),
    "BehaviourCloning, in latents": cloning(encoded=True),
    "losses": losses,
    "MPPI": planner,
    "LatentRollout": rollout,
    "normalizers": normalizers,
}
# Loops, replays and what makes networks of members read numbers, and so do TorchRL's losses when
# they are built.
WITH_NUMBERS: dict[str, Callable[[Any], Found]] = {
    "SAC": sac,
    "PPO": ppo,
    "DreamerV3": dreamer,
    "fit(SAC)": sac_fit,
    "Population.keep": pwm(2, members=True, keep=True),
    "ReplayBuffer": replay,
    "behaviours": behaviours,
    "GrowingBatch": growing(),
    "GrowingBatch, replay on the CPU": growing(lambda _: "cpu"),
    "fit(PWM)": offline,
}
