"""One example of each public class, and something that it does, for tests/test_objects.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from tensordict import TensorDict

import pwm_sdk as P

O, A, D, B, H = 3, 2, 8, 4, 2  # noqa: E741 - the legend of shapes
Number = Callable[[Any], Any]  # what integers and floats are handed over as


def itself(number: Any) -> Any:
    """Hand a number over as it is."""
    return number


@dataclass(frozen=True)
class Case:
    """A class's example: how it is made, with numbers of any kind, and what it does."""

    make: Callable[[Number], Any]
    use: Callable[[Any], Any]


def rand(*shape: int) -> torch.Tensor:
    """Numbers in [0, 1) on the CPU, whatever the default device, in the default dtype."""
    dtype = torch.get_default_dtype()
    return torch.from_numpy(np.random.default_rng(sum(shape)).random(shape)).to(dtype)


def episode(steps: int = 6, seed: int = 0) -> TensorDict:
    """A finite episode of the replay, float32 as all recorded data."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((steps + 1, O)), rng.uniform(-1, 1, (steps, A)), rng.random(steps)
    return P.make_episode(*(x.astype(np.float32) for x in rows), 0)


def windows() -> TensorDict:
    """Windows of data, `[B]`."""
    parts = {
        "observation": rand(B, H + 1, O),
        "action": 2 * rand(B, H, A) - 1,
        "reward": rand(B, H, 1),
        "terminated": torch.zeros(B, H, 1, dtype=torch.bool, device="cpu"),
    }
    return TensorDict(parts, [B])


def transitions_of(*lead: int) -> TensorDict:
    """Transitions, with rewards and no ends."""
    over = torch.zeros(*lead, 1, dtype=torch.bool, device="cpu")
    flags = {"terminated": over, "truncated": over.clone(), "done": over.clone()}
    after = TensorDict({"observation": rand(*lead, O), "reward": rand(*lead, 1), **flags}, lead)
    return TensorDict(
        {"observation": rand(*lead, O) + 1, "action": rand(*lead, A), "next": after}, lead
    )


def starts(*lead: int) -> TensorDict:
    """Observations to start imagination from."""
    return TensorDict({"observation": rand(*lead, O)}, lead)


def model(n: Number = itself, **options: Any) -> Any:
    """A small world model with rewards that are not flat."""
    sizes = {"latent_dim": n(D), "simnorm_size": n(4), "hidden": (n(16),), "num_bins": n(5)}
    made = P.WorldModel(n(O), n(A), encoder_hidden=(n(16),), **sizes, **options)
    return P.init_fan_in(made)


def actor(n: Number = itself, size: int = D, **options: Any) -> Any:
    return P.FirstOrderActor(n(size), n(A), (n(6),), std=n(0.5), **options)


def critic(n: Number = itself, size: int = D, **options: Any) -> Any:
    return P.Critic(n(size), (n(6),), n(2), scale=n(1.5), **options)


def pwm_config(n: Number = itself) -> Any:
    return P.PWMConfig(
        horizon=n(H), gamma=n(0.9), target_tau=n(0.1), average_tau=n(0.1), critic_splits=n(2)
    )


def pwm(n: Number = itself, population: int | None = None) -> Any:
    parts = model(n), actor(n, population=population), critic(n, population=population)
    scale = P.ReturnScale(population)
    if population is None:
        generator = torch.Generator("cpu").manual_seed(3)
        return P.PWM(*parts, pwm_config(n), return_scale=scale, generator=generator)
    rates = [n(1.0), n(0.5)]
    seeds = [n(1), n(2)]
    return P.Population(*parts, pwm_config(n), return_scale=scale, seeds=seeds, rates=rates)


def tdmpc2(n: Number = itself) -> Any:
    own = model(n)
    q, prior = P.QEnsemble.for_model(own), P.PolicyPrior.for_model(own)
    return P.TDMPC2(own, q, prior, P.TDMPC2Config(gamma=n(0.9)))


def shac(n: Number = itself) -> Any:
    simulator = P.MassSpring(n(2), n(2), episode_length=n(5))
    size = simulator.observation_dim
    policy = P.FirstOrderActor(size, simulator.action_dim, (n(6),))
    config = P.SHACConfig(environments=n(4), horizon=n(H), critic_splits=n(2), critic_epochs=n(1))
    normalizer = P.RunningMeanStd((size,))
    generator = torch.Generator("cpu").manual_seed(0)
    value = P.Critic(size, (n(6),))
    return P.SHAC(simulator, policy, value, config, normalizer=normalizer, generator=generator)


def dreamer(n: Number = itself) -> Any:
    sizes = {"hidden": 8, "layers": 1, "belief": 8, "blocks": 2, "categoricals": 2, "classes": 4}
    numbers = {name: n(size) for name, size in {**sizes, "bins": 11, "horizon": 3}.items()}
    return P.DreamerV3(n(O), n(A), P.DreamerV3Config(**numbers, gamma=n(0.9)))


class Line(gymnasium.Env):
    """An environment of three numbers that counts its steps."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (O,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (A,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.t = 0
        return np.zeros(O, np.float32), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        seen = np.full(O, self.t, np.float32) * float(action[0])
        return seen, 1.0, False, self.t >= 8, {}


def growing_batch(n: Number = itself) -> Any:
    own = model(n, standardize=True)
    learner = P.PWM(own, actor(n), critic(n), pwm_config(n))
    replay = P.ReplayBuffer(n(500), n(H + 1), n(B), seed=n(0))
    config = P.RoundConfig(updates=n(1), first_updates=n(1))
    loop = P.GrowingBatch(
        P.EnvPool([Line()]), own, torch.optim.Adam(own.parameters()),
        [P.Learner(learner, [n(0)], n(4))], replay, config,
        reward_scale=[n(1.0)], lengths=[n(8)], episodes=[n(1)], seed=n(0),
    )  # fmt: skip
    loop.collect_seed([2])
    return loop


def agent_loop(n: Number = itself) -> Any:
    agent = P.PPO(n(O), n(A), P.PPOConfig(minibatch=n(4), epochs=n(1), hidden=(n(4),)))
    return P.AgentLoop(agent, P.EnvPool([Line()]), steps=n(8), every=n(8), seed=n(0))


POLE = """<mujoco><option integrator="implicitfast"/><worldbody><body><joint name="x" type="slide"/>
<geom size="0.1" mass="1"/></body></worldbody><actuator><motor joint="x" ctrllimited="true"
ctrlrange="-1 1"/></actuator></mujoco>"""


def closeness(before: Any, action: Any, after: Any) -> torch.Tensor:
    """Reward of the pole's cart."""
    return -after.qpos.square()


def simulated(sim: Any) -> Any:
    """Two steps of a simulator from its own starts."""
    state = sim.reset(2, torch.Generator("cpu").manual_seed(1))
    action = rand(2, sim.action_dim).requires_grad_(torch.is_grad_enabled())
    following, reward, *_ = sim.step(state, action)
    slope = []
    if torch.is_grad_enabled():
        slope = list(torch.autograd.grad(reward.sum(), action))
    return [following.detach(), reward.detach(), *slope]


def played(policy: Any) -> Any:
    """Actions of a policy for a few observations, and for one."""
    seen = rand(B, O)
    return [policy.act(seen), policy.act(seen[0]), policy.behaviour([0])(seen[:1].numpy())]


def acting(behaviour: Any) -> Any:
    behaviour.start(0)
    return [behaviour(np.full((1, O), t, np.float32)) for t in range(2)]


def numpy_of(*parts: Any) -> Any:
    return [np.asarray(part) for part in parts]


def mppi(n: Number = itself) -> Any:
    sizes = {"horizon": 2, "samples": 8, "elites": 2, "policy_samples": 2, "iterations": 2}
    numbers = {name: n(size) for name, size in sizes.items()}
    generator = torch.Generator("cpu").manual_seed(0)
    return P.MPPI(
        model(n), actor(n), critic(n), **numbers, gamma=n(0.9), temperature=n(0.5),
        generator=generator,
    )  # fmt: skip


def planned(planner: Any) -> Any:
    action = planner.plan(rand(2, O))
    planner.reset(1)
    return [action, planner.plan(rand(2, O))]


def rollout(n: Number = itself) -> Any:
    generator = torch.Generator("cpu").manual_seed(0)
    return P.LatentRollout(model(n), actor(n), n(H), detach=True, generator=generator)


def learned(batch: Callable[[], Any]) -> Callable[[Any], Any]:
    """Use an algorithm by one update; its metrics and its state are the result."""

    def use(algorithm: Any) -> Any:
        metrics = algorithm.update(*[batch()] * (batch is not nothing))
        return [metrics, algorithm.state_dict()]

    return use


def nothing() -> None:
    """Stands for no batch."""


def settings(kind: Any, **values: Any) -> Case:
    """A frozen dataclass of numbers."""
    return Case(lambda n: kind(**{k: n(v) for k, v in values.items()}), lambda config: vars(config))


def rssm(n: Number = itself) -> Any:
    sizes = {"hidden": 8, "belief": 8, "blocks": 2, "categoricals": 2, "classes": 3, "bins": 11}
    return P.RSSMModel(n(O), n(A), P.DreamerV3Config(**{k: n(v) for k, v in sizes.items()}))


def tracked(memory: Any) -> Any:
    """What is known after two observations."""
    found = [memory.see(rand(B, O)).detach()]
    memory.acted(rand(B, A))
    return [*found, memory.see(rand(B, O)).detach()]


def scaled(scale: Any) -> Any:
    return [scale.update(rand(5)), scale.state_dict()]


def running(moments: Any) -> Any:
    moments.update(rand(6, 2))
    seen = rand(3, 2).requires_grad_(torch.is_grad_enabled())
    normal = moments.normalize(seen)
    if normal.requires_grad:
        normal.square().sum().backward()
    return [normal.detach(), moments.state_dict()]


def moved(network: Any) -> Any:
    """Values of a network and one step of its parameters."""
    latent = rand(2, B, D) if getattr(network, "population", None) else rand(B, D)
    value = network(latent)
    if value.requires_grad:
        grads = torch.autograd.grad(value.sum(), list(network.parameters()), allow_unused=True)
        with torch.no_grad():
            for parameter, slope in zip(network.parameters(), grads, strict=True):
                parameter.sub_(0 if slope is None else 0.01 * slope)
    return [value.detach(), network.state_dict()]


def stepped(own: Any) -> Any:
    """Two imagined steps; modules learn from them."""
    latent = own.encode(rand(B, O))
    latent, reward, *_ = own.step(latent, rand(B, A))
    following, second, *_ = own.step(latent, rand(B, A))
    if isinstance(own, torch.nn.Module) and second.requires_grad:
        total = (reward + second).sum() + following.square().sum()
        wanted = [p for p in own.parameters() if p.requires_grad]
        grads = torch.autograd.grad(total, wanted, allow_unused=True)
        with torch.no_grad():
            for parameter, slope in zip(wanted, grads, strict=True):
                parameter.sub_(0 if slope is None else 0.01 * slope)
    return [x.detach() for x in (latent, reward, following, second)]


CASES: dict[str, Case] = {
    "BehaviourCloning": Case(
        lambda n: P.BehaviourCloning(actor(n), P.BehaviourCloningConfig(lr=n(0.1)), model=model(n)),
        learned(windows),
    ),
    "BehaviourCloningConfig": settings(P.BehaviourCloningConfig, lr=0.5, max_norm=1.0),
    "Critic": Case(lambda n: critic(n, population=n(2)), moved),
    "Disagreement": Case(lambda n: P.Disagreement(model(n), n(2), n(0.5)), stepped),
    "DreamerV3": Case(dreamer, learned(windows)),
    "DreamerV3Config": settings(P.DreamerV3Config, gamma=0.5, bins=11),
    "EncodedSimulator": Case(
        lambda n: P.EncodedSimulator(
            P.MassSpring(n(2), n(2)), P.WorldModel(n(16), n(A), latent_dim=n(8), hidden=(n(6),))
        ),
        lambda seen: [seen.features(rand(2, 16)).detach(), *seen.step(rand(2, 16), rand(2, 6))],
    ),
    "EnvPool": Case(
        lambda n: P.EnvPool([Line()], n(0)),
        lambda pool: numpy_of(
            *pool.reset_many([0]), pool.step_many([0], np.ones((1, A)))[0].reward
        ),
    ),
    "Episode": Case(
        lambda n: P.Episode(*(np.ones(shape) for shape in ((3, O), (2, A), 2, 2, 2))), vars
    ),
    "Execution": settings(P.Execution, check_every=3),
    "FirstOrderActor": Case(lambda n: actor(n, population=n(2), action_dims=[n(1), n(2)]), moved),
    "GrowingBatch": Case(
        growing_batch, lambda loop: [loop.run_round(0.5).metrics, loop.state_dict()]
    ),
    "AgentLoop": Case(agent_loop, lambda loop: [loop.run_round(0.5).metrics, loop.state_dict()]),
    "OnlineConfig": settings(P.OnlineConfig, latent_dim=8, recent=0.5),
    "Run": Case(lambda n: P.Run("run", growing_batch(n), readings=n(2)), lambda run: run.identity),
    "TaskPlan": Case(lambda n: P.TaskPlan(n(0.5), n(4), n(5), n(1), n(2)), lambda plan: vars(plan)),
    "LatentBehaviour": Case(
        lambda n: P.LatentBehaviour(
            model(n), [actor(n)], [n(0)], np.random.default_rng(0), correlation=n(0.5)
        ),
        acting,
    ),
    "LatentEnv": Case(
        lambda n: P.LatentEnv(model(n)),
        lambda env: (
            env.rollout(2, tensordict=env.start(rand(B, D)), break_when_any_done=False)
            .flatten_keys()
            .detach()
            .to_dict()
        ),
    ),
    "LatentRollout": Case(rollout, lambda r: r(rand(B, D)).flatten_keys().detach().to_dict()),
    "Learner": Case(lambda n: P.Learner(pwm(n), [n(0)], n(3)), lambda own: [own.tasks, own.starts]),
    "MPPI": Case(mppi, planned),
    "MassSpring": Case(lambda n: P.MassSpring(n(2), n(2), stroke=n(0.25)), simulated),
    "MuJoCoModel": Case(
        lambda n: P.MuJoCoModel(POLE, closeness, substeps=n(2), threads=n(1)), simulated
    ),
    "ObservationPolicy": Case(
        lambda n: P.ObservationPolicy(actor(n), model=model(n), tasks=n(0), low=n(-2.0)), played
    ),
    "PPO": Case(
        lambda n: P.PPO(
            n(O),
            n(A),
            P.PPOConfig(minibatch=n(4), epochs=n(1), hidden=(n(4),), std=n(0.5)),
            observations=P.RunningMeanStd((n(O),)),
            returns=P.RunningMeanStd((1,)),
        ),
        learned(lambda: transitions_of(2, 4)),
    ),
    "PPOConfig": settings(P.PPOConfig, gamma=0.5, epochs=2),
    "ProgressBar": Case(
        lambda n: P.ProgressBar(n(10), show=("score",), shown=True),
        lambda bar: (bar.log({"score": 2.0}, 5), bar.close(), bar.total),
    ),
    "PWM": Case(pwm, learned(lambda: starts(B))),
    "PWMConfig": settings(P.PWMConfig, gamma=0.5, horizon=2),
    "PoolStep": Case(lambda n: P.PoolStep(rand(O).numpy(), 1.5, True, False, False), list),
    "PolicyPrior": Case(lambda n: P.PolicyPrior(n(D), n(A), hidden=(n(4),)), moved),
    "PolicyValue": Case(
        lambda n: P.PolicyValue(
            P.QEnsemble(n(D), n(A), hidden=(n(4),)), actor(n), torch.Generator("cpu").manual_seed(0)
        ).given(None),
        lambda value: [value(rand(B, D)).detach()],
    ),
    "Population": Case(lambda n: pwm(n, 2), learned(lambda: starts(2, B))),
    "Prefetcher": Case(
        lambda n: P.Prefetcher(CASES["ReplayBuffer"].make(n), "cpu", depth=n(0)),
        lambda source: source.sample().to_dict(),
    ),
    "EpisodeCutter": Case(
        lambda n: P.EpisodeCutter(n(0), bounds=(n(-2.0), n(2.0)), absorbing=n(1)),
        lambda cutter: [e.to_dict() for e in (*cutter.cut(transitions_of(5)), *cutter.rest())],
    ),
    "QEnsemble": Case(
        lambda n: P.QEnsemble(n(D), n(A), hidden=(n(4),), ensemble=n(3), dropout=n(0.0)),
        lambda q: [q.logits(rand(B, D), rand(B, A)).detach(), q.state_dict()],
    ),
    "RSSMModel": Case(rssm, stepped),
    "LatentTracker": Case(lambda n: P.LatentTracker(rssm(n)), tracked),
    "RandomBehaviour": Case(lambda n: P.RandomBehaviour(n(1), n(A), n(0), n(3)), acting),
    "ReplayBuffer": Case(
        lambda n: filled(P.ReplayBuffer(n(50), n(H + 1), n(B), recent=n(0.5), seed=n(0))),
        lambda replay: [replay.sample().to_dict(), replay.sample_starts([0], 2).to_dict()],
    ),
    "ReturnScale": Case(lambda n: P.ReturnScale(floor=n(0.25)), scaled),
    "RoundReport": Case(
        lambda n: P.RoundReport(
            n(3), np.ones(2), {"gap": np.zeros(2)}, {"loss": n(0.5)}, n(1.0), n(2.0)
        ),
        lambda report: [vars(report), report.row(["a", "b"])],
    ),
    "RoundConfig": settings(P.RoundConfig, updates=3, std_share=0.25),
    "RunningMeanStd": Case(lambda n: P.RunningMeanStd((n(2),), n(5.0)), running),
    "SAC": Case(
        lambda n: P.SAC(n(O), n(A), P.SACConfig(hidden=(n(4),), batch_size=n(4), gamma=n(0.9))),
        learned(lambda: transitions_of(4)),
    ),
    "SACConfig": settings(P.SACConfig, gamma=0.5, batch_size=3),
    "SHAC": Case(shac, learned(nothing)),
    "SHACConfig": settings(P.SHACConfig, gamma=0.5, horizon=2),
    "SimulatorEnv": Case(
        lambda n: P.SimulatorEnv(P.MassSpring(n(2), n(2))),
        lambda env: numpy_of(env.reset(seed=1)[0], env.step(np.ones(6, np.float32))[0]),
    ),
    "SoftBody": Case(lambda n: P.SoftBody((n(1), n(1), n(1)), substeps=n(2)), simulated),
    "TDMPC2": Case(tdmpc2, learned(windows)),
    "TDMPC2Config": settings(P.TDMPC2Config, gamma=0.5),
    "Task": Case(lambda n: P.MT30["walker-stand"], dataclasses.asdict),
    "TaskSet": Case(lambda n: P.MT30, lambda tasks: [task.name for task in tasks]),
    "WorldModel": Case(lambda n: model(n, standardize=True, episodic=True), stepped),
}


def filled(replay: Any) -> Any:
    """Add two episodes."""
    for seed in range(2):
        replay.add(episode(seed=seed))
    return replay
