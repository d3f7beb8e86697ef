"""A smallest legal call of every public callable, by its name: what wrong calls are made from."""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import torch
from tensordict import TensorDict
from torch import nn

import pwm_sdk as sdk
from pwm_sdk import keys
from pwm_sdk.algorithms.starts import discount_of
from pwm_sdk.functional import (
    gaussian,
    gradients,
    losses,
    moments,
    planning,
    returns,
    rewards,
    scale,
    twohot,
)
from pwm_sdk.optim import FiniteWatch, decay_factor, scale_learning_rates

B, H, P, O, A, D = 4, 3, 2, 3, 2, 8  # noqa: E741 - the legend of shapes
COUNTER = itertools.count()
# what reads files of other programs, of which there is none here
FOREIGN = {"open_foreign", "tdmpc2_policy_prior", "tdmpc2_q_ensemble", "from_tdmpc2_chunks"}
Call = tuple[Callable[..., Any], dict[str, Any]]


class Point(gymnasium.Env):
    """A point in O dimensions that an action moves; truncates after 5 steps."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (O,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (A,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.left = 5
        return np.zeros(O, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.left -= 1
        seen = np.full(O, float(np.asarray(action).mean()), np.float32)
        return seen, 1.0, False, self.left == 0, {}


def windows(tasks: bool = False) -> TensorDict:
    """Windows `[B]` of H steps."""
    return TensorDict(
        {
            keys.OBSERVATION: torch.randn(B, H + 1, O),
            keys.ACTION: torch.rand(B, H, A) * 2 - 1,
            keys.REWARD: torch.rand(B, H, 1),
            keys.TERMINATED: torch.zeros(B, H, 1, dtype=torch.bool),
            keys.TASK: torch.arange(B) % 2 if tasks else torch.zeros(B, dtype=torch.int64),
        },
        [B],
    )


def transitions_of(count: tuple[int, ...]) -> TensorDict:
    """Transitions `[N, T]` as `transitions` yields them."""
    after = {
        keys.OBSERVATION: torch.randn(*count, O),
        keys.REWARD: torch.rand(*count, 1),
        keys.TERMINATED: torch.zeros(*count, 1, dtype=torch.bool),
        keys.TRUNCATED: torch.zeros(*count, 1, dtype=torch.bool),
        keys.DONE: torch.zeros(*count, 1, dtype=torch.bool),
    }
    rows = {keys.OBSERVATION: torch.randn(*count, O), keys.ACTION: torch.rand(*count, A) * 2 - 1}
    return TensorDict({**rows, keys.NEXT: TensorDict(after, count)}, count)


def episode(steps: int = 6, task: int = 0) -> TensorDict:
    """An episode of random rows."""
    rng = np.random.default_rng(0)
    return sdk.make_episode(
        rng.normal(size=(steps + 1, O)), rng.uniform(-1, 1, (steps, A)), rng.random(steps), task
    )


def replay() -> Any:
    """A replay with two episodes."""
    buffer = sdk.ReplayBuffer(100, H + 1, B, seed=0)
    buffer.add(episode())
    buffer.add(episode())
    return buffer


def recorded() -> Any:
    """An episode as `run_episodes` returns it."""
    rng = np.random.default_rng(0)
    f, ends = np.float32, np.zeros(20, bool)
    seen, acts = rng.normal(size=(21, O)).astype(f), rng.uniform(-1, 1, (20, A)).astype(f)
    return sdk.Episode(seen, acts, rng.random(20).astype(f), ends, ends.copy())


def world_model(**settings: Any) -> Any:
    """A tiny world model."""
    small = {"latent_dim": D, "hidden": (8,), "encoder_hidden": (8,), "num_bins": 11}
    return sdk.WorldModel(O, A, **{**small, "simnorm_size": 4, **settings})


@functools.cache
def parts() -> SimpleNamespace:
    """Everything that calls need, tiny."""
    torch.manual_seed(0)
    p = SimpleNamespace()
    p.model = world_model(standardize=True)
    p.tasked = world_model(num_tasks=2, task_dim=4, episodic=True, standardize=True)
    p.actor, p.critic = sdk.FirstOrderActor(D, A, (8,)), sdk.Critic(D, (8,), 2)
    p.actors = sdk.FirstOrderActor(D, A, (8,), population=P, learn_std=False)
    p.critics = sdk.Critic(D, (8,), 2, population=P)
    p.q, p.prior = sdk.QEnsemble.for_model(p.model), sdk.PolicyPrior.for_model(p.model)
    p.latent, p.noise = torch.randn(B, D), torch.randn(B, A)
    p.latents, p.action = torch.randn(P, B, D), torch.rand(B, A) * 2 - 1
    p.observation, p.seen = torch.randn(B, O), np.zeros((1, O), np.float32)
    p.task = torch.arange(B) % 2
    p.reward, p.marks = torch.rand(B, H, 1), torch.zeros(B, H, 1, dtype=torch.bool)
    p.rollout = sdk.LatentRollout(p.model, p.actor, H)
    p.trajectory = p.rollout(p.latent).detach()
    p.batch, p.replay, p.episode = windows(), replay(), recorded()
    p.errors = sdk.step_errors(p.model, p.batch)
    p.context = p.model.context(None)
    p.simulator = sdk.MassSpring(2, 2, substeps=2, episode_length=5)
    p.state = p.simulator.reset(B)
    springs = p.simulator.action_dim
    p.pull = torch.zeros(B, springs)
    p.sim_actor = sdk.FirstOrderActor(16, springs, (8,))
    p.sim_critic = sdk.Critic(16, (8,), 2)
    p.pool = sdk.EnvPool([Point()])
    p.policy = sdk.RandomBehaviour(1, A, 0)
    p.folder = Path(tempfile.mkdtemp())
    p.actor.save(p.folder / "actor.safetensors")
    p.critic.save(p.folder / "critic.safetensors")
    p.model.save(p.folder / "model.safetensors")
    p.q.save(p.folder / "q.safetensors")
    p.prior.save(p.folder / "prior.safetensors")
    return p


def pwm() -> Any:
    """A PWM of one policy."""
    p = parts()
    config = sdk.PWMConfig(horizon=H, critic_epochs=1, critic_splits=2)
    return sdk.PWM(p.model, sdk.FirstOrderActor(D, A, (8,)), sdk.Critic(D, (8,), 2), config)


def population() -> Any:
    """A population of P policies."""
    p = parts()
    config = sdk.PWMConfig(horizon=H, critic_epochs=1, critic_splits=2)
    actor = sdk.FirstOrderActor(D, A, (8,), population=P)
    return sdk.Population(
        p.model, actor, sdk.Critic(D, (8,), 2, population=P), config, seeds=[1, 2]
    )


def growing() -> Any:
    """A growing batch of one task."""
    call, settings = constructors()["GrowingBatch"]
    return call(**settings)


def shac() -> Any:
    """A SHAC on springs."""
    call, settings = constructors()["SHAC"]
    return call(**settings)


def td_mpc2() -> Any:
    """A TD-MPC2."""
    model = world_model()
    return sdk.TDMPC2(model, sdk.QEnsemble.for_model(model), sdk.PolicyPrior.for_model(model))


def dreamer() -> Any:
    """A DreamerV3 of 8 units."""
    sizes = {"hidden": 8, "layers": 1, "belief": 8, "blocks": 2, "categoricals": 2, "classes": 2}
    return sdk.DreamerV3(O, A, sdk.DreamerV3Config(**sizes, bins=11, horizon=2))


def mujoco() -> Any:
    """A cart on a rail."""
    call, settings = constructors()["MuJoCoModel"]
    return call(**settings)


CART = """
<mujoco><worldbody><body><joint name="x" type="slide" axis="1 0 0"/><geom size="0.1"/></body>
</worldbody><actuator><motor joint="x" ctrlrange="-1 1"/></actuator></mujoco>
"""


@functools.cache
def constructors() -> dict[str, Call]:
    """Public classes."""
    p = parts()
    f = dict
    networks = f(model=p.model, actor=p.actor, critic=p.critic)
    return {
        "BehaviourCloning": (sdk.BehaviourCloning, f(actor=p.actor, config=None, model=p.model)),
        "BehaviourCloningConfig": (sdk.BehaviourCloningConfig, f(lr=1e-3, max_norm=10.0)),
        "Critic": (sdk.Critic, f(latent_dim=D, hidden=(8,), ensemble=2, population=None,
            reduce="min", scale=1.0, activation="mish", norm="after", output_gain=1.0)),
        "Disagreement": (sdk.Disagreement, f(model=p.model, heads=1, coef=1.0)),
        "DreamerV3": (sdk.DreamerV3, f(observation_dim=O, action_dim=A, config=dreamer().config)),
        "DreamerV3Config": (sdk.DreamerV3Config, f(hidden=8, layers=1, belief=8, blocks=2,
            categoricals=2, classes=2, unimix=0.01, bins=11, horizon=2, gamma=0.9, lam=0.9,
            entropy=0.1, free_nats=1.0, replay_value=0.3, tau=0.1, lr=1e-3, max_norm=1.0)),
        "EncodedSimulator": (sdk.EncodedSimulator, f(simulator=p.simulator,
            encoder=sdk.WorldModel(16, 6, latent_dim=D, hidden=(8,), encoder_hidden=(8,)))),
        "EnvPool": (sdk.EnvPool, f(envs=[Point()], workers=0)),
        "Episode": (sdk.Episode, vars(p.episode)),
        "Execution": (sdk.Execution, f(compile=False, precision="fp32", cuda_graphs=False,
            check_every=1)),
        "FirstOrderActor": (sdk.FirstOrderActor, f(latent_dim=D, action_dim=A, hidden=(8,),
            population=None, action_dims=[A], std=0.3, min_std=0.2, learn_std=True,
            noise="before", activation="mish", norm="after", output_gain=1.0)),
        "GrowingBatch": (sdk.GrowingBatch, f(pool=p.pool, model=p.model,
            model_optimizer=torch.optim.Adam(p.model.parameters()),
            learners=[sdk.Learner(population_of_one(), [0], 4)], replay=p.replay,
            config=sdk.RoundConfig(updates=1, first_updates=1), reward_scale=[1.0], lengths=[4],
            episodes=[1], seed=0, weight=1.0)),
        "LatentBehaviour": (sdk.LatentBehaviour, f(model=p.model, actors=[p.actor], tasks=[0],
            rng=np.random.default_rng(0), correlation=0.5)),
        "LatentRollout": (sdk.LatentRollout, f(model=p.model, policy=p.actor, horizon=H,
            detach=False, generator=torch.Generator(), compile=False)),
        "Learner": (sdk.Learner, f(pwm=pwm(), tasks=[0], starts=4, every=1)),
        "MPPI": (sdk.MPPI, f(model=p.model, policy=p.actor, value=p.critic, horizon=2, samples=8,
            elites=2, policy_samples=2, iterations=1, temperature=0.5, std=(0.05, 2.0),
            gamma=0.9, generator=torch.Generator())),
        "MassSpring": (sdk.MassSpring, f(columns=2, rows=2, spacing=0.1, mass=0.1, stiffness=300.0,
            damping=0.5, stroke=0.3, friction=0.8, ground=2000.0, timestep=0.016, substeps=2,
            episode_length=5)),
        "ModelSize": (sdk.ModelSize, f(encoder_hidden=(8,), latent_dim=D, hidden=(8, 8),
            task_dim=4, ensemble=2)),
        "MuJoCoModel": (sdk.MuJoCoModel, f(model=CART,
            reward=lambda before, action, after: after.qpos - 0.1 * action, features=None,
            terminated=None, start=None, substeps=1, action_repeat=1, episode_length=5,
            sensors=False, integrator="implicitfast", threads=1, dtype=torch.float64)),
        "ObservationBehaviour": (sdk.ObservationBehaviour, f(policy=nn.Linear(O, A),
            device="cpu")),
        "PPO": (sdk.PPO, f(observation_dim=O, action_dim=A, config=None, actor=nn.Linear(O, A),
            critic=nn.Linear(O, 1), observations=sdk.RunningMeanStd((O,)),
            returns=sdk.RunningMeanStd((1,)))),
        "PPOConfig": (sdk.PPOConfig, f(gamma=0.9, lam=0.9, lr=1e-3, clip=0.2, epochs=1,
            minibatch=4, entropy=0.1, value=0.5, max_norm=0.5, hidden=(8,), std=1.0)),
        "PWM": (sdk.PWM, f(**networks, config=sdk.PWMConfig(horizon=H),
            return_scale=sdk.ReturnScale(), generator=torch.Generator(),
            execution=sdk.Execution())),
        "PWMConfig": (sdk.PWMConfig, f(horizon=H, gamma=0.9, lam=0.9, actor_lam=0.9, actor_lr=1e-3,
            critic_lr=1e-3, betas=(0.7, 0.9), actor_max_norm=1.0, critic_max_norm=1.0,
            critic_epochs=1, critic_splits=1, critic_limit=1, saturation=0.1, behaviour=0.1,
            target_tau=0.1, average_tau=0.1, detach=False, extra_discount=False,
            symlog_reward=False, mask_actions=True, shuffle=True, normalize_returns=False)),
        "PlannerBehaviour": (sdk.PlannerBehaviour, f(planner=planner(), tasks=[0], choice="mean",
            action_dim=A)),
        "PolicyPrior": (sdk.PolicyPrior, f(latent_dim=D, action_dim=A, task_dim=0, hidden=(8,),
            log_std=(-10.0, 2.0), activation="mish")),
        "PolicyValue": (sdk.PolicyValue, f(q=p.q, policy=p.actor, generator=torch.Generator())),
        "Population": (sdk.Population, f(model=p.model, actor=p.actors, critic=p.critics,
            config=sdk.PWMConfig(horizon=H), seeds=[1, 2], rates=[1.0, 0.5],
            return_scale=sdk.ReturnScale(P), generator=torch.Generator())),
        "Prefetcher": (sdk.Prefetcher, f(source=p.replay, device="cpu", depth=0)),
        "PublishedModel": (sdk.PublishedModel, f(model=p.model, symlog_reward=True,
            mask_actions=False)),
        "QEnsemble": (sdk.QEnsemble, f(latent_dim=D, action_dim=A, task_dim=0, hidden=(8,),
            ensemble=2, num_bins=11, dropout=0.01, activation="mish")),
        "RandomBehaviour": (sdk.RandomBehaviour, f(count=1, action_dim=A, seed=0, hold=2)),
        "RecurrentBehaviour": (sdk.RecurrentBehaviour, f(act=dreamer().act, count=1,
            device="cpu")),
        "ReplayBuffer": (sdk.ReplayBuffer, f(capacity=100, slice_len=H + 1, batch_size=B,
            task_weights={0: 1.0}, recent=0.5, device="cpu", seed=0)),
        "ReturnDeviation": (sdk.ReturnDeviation, f(population=P, eps=1e-5)),
        "ReturnScale": (sdk.ReturnScale, f(population=P, decay=0.9, low=0.05, high=0.95,
            floor=0.1)),
        "RoundConfig": (sdk.RoundConfig, f(updates=1, first_updates=1, rho=0.7, consistency=1.0,
            reward=1.0, model_max_norm=1.0, reward_weight_gain=0.1, reward_weight_eps=0.1,
            reward_weight_cap=1.0, std=(0.6, 0.2), std_share=0.5, correlation=0.8,
            decay_share=0.2, decay_floor=0.1, statistics_rounds=1, hold=2)),
        "RunningMeanStd": (sdk.RunningMeanStd, f(shape=(O,), limit=5.0, eps=1e-5)),
        "SAC": (sdk.SAC, f(observation_dim=O, action_dim=A, config=sdk.SACConfig(hidden=(8,)),
            actor=nn.Linear(O, 2 * A), critic=None)),
        "SACConfig": (sdk.SACConfig, f(gamma=0.9, tau=0.1, lr=1e-3, batch_size=4, capacity=10,
            random_steps=2, updates_per_step=1.0, alpha=1.0, target_entropy=-1.0, hidden=(8,),
            log_std=(-5.0, 2.0))),
        "SHAC": (sdk.SHAC, f(model=p.simulator, actor=p.sim_actor, critic=p.sim_critic,
            config=sdk.SHACConfig(environments=2, horizon=2, critic_epochs=1, critic_splits=1),
            normalizer=sdk.RunningMeanStd((16,)), generator=torch.Generator())),
        "SHACConfig": (sdk.SHACConfig, f(environments=2, horizon=2, gamma=0.9, lam=0.9,
            actor_lam=0.9, actor_lr=1e-3, critic_lr=1e-3, betas=(0.7, 0.9), actor_max_norm=1.0,
            critic_max_norm=1.0, critic_epochs=1, critic_splits=1, target_tau=0.1,
            cotangent_clip=1.0, saturation=0.1)),
        "SimulatorEnv": (sdk.SimulatorEnv, f(model=p.simulator)),
        "TDMPC2": (sdk.TDMPC2, f(model=p.model, q=p.q, prior=p.prior, config=sdk.TDMPC2Config(),
            generator=torch.Generator(), synchronize=False)),
        "TDMPC2Config": (sdk.TDMPC2Config, f(gamma=0.9, rho=0.5, lr=1e-3, encoder_lr=1e-3,
            max_norm=1.0, tau=0.1, consistency=1.0, reward=0.1, value=0.1, termination=1.0,
            entropy=0.1, entropy_kind="action", carry_gradient=False, dropout_everywhere=False)),
        "Task": (sdk.Task, f(name="point", index=200, suite="own", observation_dim=O,
            action_dim=A, episode_length=5, action_repeat=1, reward_scale=1.0, score_scale=5.0,
            custom=False, terminates=False)),
        "TaskSet": (sdk.TaskSet, f(tasks=[sdk.MT80["walker-run"]], observation_dim=30,
            action_dim=6)),
        "WorldModel": (sdk.WorldModel, f(observation_dim=O, action_dim=A, num_tasks=2, task_dim=4,
            latent_dim=D, hidden=(8,), encoder_hidden=(8,), num_bins=11, simnorm_size=4,
            action_dims=[A, 1], activation="mish", standardize=False, task_init=0.1,
            episodic=False, spectral_norm=False)),
        "FiniteWatch": (FiniteWatch, f(names=["loss"], every=1, device="cpu", captured=False)),
    }  # fmt: skip


def fresh(folder: Any) -> Any:
    """An empty folder inside a folder; what is no path stays as it is."""
    return tempfile.mkdtemp(dir=folder) if isinstance(folder, Path) else folder


def named(name: Any) -> Any:
    """A name that no data set has yet; what is no name stays as it is."""
    return name.replace("point", f"point{next(COUNTER)}") if isinstance(name, str) else name


def population_of_one() -> Any:
    """A PWM with a population of one policy."""
    p = parts()
    actor = sdk.FirstOrderActor(D, A, (8,), population=1, learn_std=False)
    critic = sdk.Critic(D, (8,), 2, population=1)
    config = sdk.PWMConfig(horizon=2, critic_epochs=1, critic_splits=1)
    return sdk.PWM(p.model, actor, critic, config)


def planner() -> Any:
    """A planner with eight candidates."""
    p = parts()
    sizes = {"horizon": 2, "samples": 8, "elites": 2, "policy_samples": 2, "iterations": 1}
    return sdk.MPPI(p.model, p.actor, p.critic, **sizes)


@functools.cache
def functions() -> dict[str, Call]:
    """Public functions, and those of `pwm_sdk.functional`."""
    p, f = parts(), dict
    value, mask = torch.randn(B, H, 1), torch.ones(B, A)
    loss = lambda: p.actor.loc(p.latent).square().mean()  # noqa: E731
    coefficients = f(rho=0.5, consistency=1.0, reward=1.0, termination=1.0)
    flat = torch.cat([x.flatten() for x in p.actor.parameters()]).detach()
    return {
        "actor_loss": (sdk.actor_loss, f(trajectory=p.trajectory, critic=p.critic, gamma=0.9,
            lam=0.9, scale=1.0, saturation=0.1, returns=torch.randn(B, 1))),
        "behaviour_loss": (sdk.behaviour_loss, f(policy=p.actor, latents=p.latent,
            actions=p.action)),
        "check_latent_model": (sdk.check_latent_model, f(model=p.model,
            observation=p.observation, task=None)),
        "clip_cotangent": (sdk.clip_cotangent, f(x=p.latent, limit=1.0, on_clip=lambda m: None)),
        "critic_loss": (sdk.critic_loss, f(critic=p.critic, latents=p.latent,
            targets=torch.randn(B, 1), weight=torch.ones(B, 1))),
        "evaluate": (sdk.evaluate, f(env=Point(), model=p.model, actor=p.actor, episodes=1,
            task=0, workers=0)),
        "evaluate_members": (sdk.evaluate_members, f(envs=[Point(), Point()], model=p.model,
            actor=p.actors, episodes=1, tasks=[0, 0], seeds=[1, 2], workers=0)),
        "exploitation_gap": (sdk.exploitation_gap, f(model=p.model, actor=p.actors,
            critic=p.critics, episodes=[[p.episode], [p.episode]], tasks=[0, 0], gamma=0.9,
            reward_scale=[1.0, 1.0], horizon=3, count=2, rng=np.random.default_rng(0),
            deterministic=True)),
        "frozen": (lambda modules: sdk.frozen(modules).__enter__(), f(modules=p.actor)),
        "gradient_statistics": (sdk.gradient_statistics, f(gradients=torch.randn(4, 5),
            reference=torch.randn(4, 5))),
        "imagined_returns": (sdk.imagined_returns, f(trajectory=p.trajectory, critic=p.critic,
            gamma=0.9, lam=None, extra_discount=True)),
        "init_fan_in": (sdk.init_fan_in, f(module=world_model())),
        "init_orthogonal": (sdk.init_orthogonal, f(module=sdk.Critic(D, (8,)), gain=1.0)),
        "init_uniform": (sdk.init_uniform, f(module=sdk.Critic(D, (8,)))),
        "joint_loss": (sdk.joint_loss, f(q=p.q, batch=p.batch, errors=p.errors,
            target=torch.randn(B, H, 1), value=1.0, **coefficients)),
        "lambda_targets": (sdk.lambda_targets, f(trajectory=p.trajectory, critic=p.critic,
            gamma=0.9, lam=0.9)),
        "make_env": (sdk.make_env, f(task="cartpole-swingup", seed=0, padded=False,
            tasks=sdk.MT80, device="cpu")),
        "make_gym": (sdk.make_gym, f(task="cartpole-swingup", seed=0, padded=False,
            tasks=sdk.MT80)),
        "make_episode": (sdk.make_episode, f(observations=np.zeros((4, O), np.float32),
            actions=np.zeros((3, A), np.float32), rewards=np.zeros(3, np.float32), task=0,
            terminated=np.array([False, False, True]), absorbing=1)),
        "make_simulator": (sdk.make_simulator, f(name="hopper-stand", margin=0.1, threads=1,
            dtype=torch.float32)),
        "minibatches": (lambda tensors, **more: list(sdk.minibatches(tensors, **more)), f(
            tensors=torch.randn(B, H, D), epochs=1, splits=2, limit=1, shuffle=True,
            generator=torch.Generator())),
        "model_size": (sdk.model_size, f(size=1, tasks=sdk.MT30)),
        "open_foreign": (sdk.open_foreign, f(path=p.folder / "none.pt")),
        "optimize": (lambda **more: sdk.optimize(**{"loss": loss(), **more}), f(
            optimizer=torch.optim.SGD(p.actor.parameters(), lr=0.0), max_norm=1.0,
            population=None, synchronize=False, watch=None, name="loss")),
        "policy_gradients": (sdk.policy_gradients, f(model=p.model, policy=p.actor,
            latent=p.latent, horizons=[1, 2], gamma=0.9, estimator="pathwise",
            noise=torch.randn(2, B, A), task=None)),
        "prior_loss": (sdk.prior_loss, f(prior=p.prior, q=p.q, latent=torch.randn(B, H + 1, D),
            context=p.context, scale=torch.ones(()), noise=torch.randn(B, H + 1, A),
            heads=torch.tensor([0, 1]), rho=0.5, entropy=0.1, kind="action")),
        "pwm_model_loss": (sdk.pwm_model_loss, f(model=p.model, batch=p.batch, gamma=0.9)),
        "pwm_statistics": (sdk.pwm_statistics, f(contents={"obs_rms": {"mean": torch.zeros(O),
            "var": torch.ones(O), "count": torch.ones(())}})),
        "register_task": (sdk.register_task, f(
            task=sdk.Task("calls-point", 7001, "own", O, A, 5), factory=Point)),
        "return_landscape": (sdk.return_landscape, f(model=p.model, policy=p.actor,
            latent=p.latent, direction=torch.zeros_like(flat), offsets=torch.tensor([0.0]),
            horizons=[2], gamma=0.9, noise=torch.randn(2, B, A), task=None)),
        "run_episodes": (sdk.run_episodes, f(pool=p.pool, behaviour=p.policy, quota=[1],
            lengths=[2], seeds=[3], on_step=lambda: None)),
        "soft_update": (sdk.soft_update, f(target=nn.Linear(2, 2), source=nn.Linear(2, 2),
            tau=0.1)),
        "step_errors": (sdk.step_errors, f(model=p.model, batch=p.batch)),
        "summarize": (sdk.summarize, f(episodes=[p.episode])),
        "td_targets": (sdk.td_targets, f(q=p.q, prior=p.prior, batch=p.batch,
            following=torch.randn(B, H, D), context=p.context, gamma=0.9,
            noise=torch.randn(B, H, A), heads=torch.tensor([0, 1]))),
        "tdmpc2_policy_prior": (sdk.tdmpc2_policy_prior, f(contents={})),
        "tdmpc2_q_ensemble": (sdk.tdmpc2_q_ensemble, f(contents={}, target=False)),
        "from_tdmpc2_chunks": (sdk.from_tdmpc2_chunks, f(paths=[p.folder / "chunk_0.pt"],
            out=p.folder / "out", tasks=sdk.MT80, episode_length=3)),
        "to_tdmpc2_chunks": (lambda out, **more: sdk.to_tdmpc2_chunks(out=fresh(out),
            **more), f(source=p.replay, out=p.folder,
            tasks=[0], episode_length=3, chunk_episodes=2)),
        "to_minari": (lambda dataset_id, **more: sdk.to_minari(
            dataset_id=named(dataset_id), **more), f(source=p.replay, dataset_id="calls/point-v0",
            task=sdk.Task("point", 0, "own", O, A, 5))),
        "train_offline": (sdk.train_offline, f(algorithm=pwm(), replay=p.replay, steps=1,
            floor=0.1, path=None, save_every=1, on_step=lambda step, metrics: None)),
        "transitions": (lambda **more: next(sdk.transitions(**more)), f(pool=p.pool,
            behaviour=p.policy, steps=2)),
        "world_model_errors": (sdk.world_model_errors, f(model=p.model, batch=p.batch, rho=0.5)),
        "world_model_loss": (sdk.world_model_loss, f(model=p.model, batch=p.batch,
            reward_weight=torch.ones(2), **coefficients)),
        "write_atomic": (sdk.write_atomic, f(path=p.folder / "text",
            write=lambda part: part.write_text("x"))),
        "decay_factor": (decay_factor, f(progress=0.5, share=0.5, floor=0.1)),
        "scale_learning_rates": (scale_learning_rates, f(
            optimizer=torch.optim.SGD(p.actor.parameters(), lr=0.0), factor=0.5)),
        "discount_of": (discount_of, f(gamma=0.9, population=None, device=torch.device("cpu"))),
        "functional.gaussian.bounded_log_std": (gaussian.bounded_log_std, f(raw=p.noise, low=-1.0,
            high=1.0)),
        "functional.gaussian.gaussian_log_prob": (gaussian.gaussian_log_prob, f(noise=p.noise,
            log_std=torch.zeros(B, A))),
        "functional.gaussian.tanh_log_slope": (gaussian.tanh_log_slope, f(action=p.action)),
        "functional.gradients.clip_cotangent": (gradients.clip_cotangent, f(x=p.latent, limit=1.0,
            on_clip=None)),
        "functional.losses.two_hot_loss": (losses.two_hot_loss, f(logits=torch.randn(B, 11),
            value=torch.randn(B, 1), low=-5.0, high=5.0)),
        "functional.losses.saturation_penalty": (losses.saturation_penalty, f(loc=p.noise,
            limit=1.0)),
        "functional.losses.saturated_share": (losses.saturated_share, f(loc=p.noise,
            threshold=2.0, mask=mask)),
        "functional.losses.step_weights": (losses.step_weights, f(horizon=H, rho=0.5,
            like=p.noise)),
        "functional.losses.step_powers": (losses.step_powers, f(horizon=H, rho=0.5,
            like=p.noise)),
        "functional.moments.merge_moments": (moments.merge_moments, f(mean=torch.zeros(O),
            var=torch.ones(O), count=torch.ones(()), batch=p.observation)),
        "functional.planning.elite_weights": (planning.elite_weights, f(value=torch.randn(B, 8),
            elites=2, temperature=0.5)),
        "functional.planning.weighted_moments": (planning.weighted_moments, f(
            actions=torch.randn(B, 2, H, A), weight=torch.rand(B, 2), eps=1e-9)),
        "functional.planning.draw_by_weight": (planning.draw_by_weight, f(weight=torch.rand(B, 2),
            exponential=torch.rand(B, 2))),
        "functional.returns.lambda_returns": (returns.lambda_returns, f(reward=p.reward,
            next_value=value, gamma=0.9, lam=0.9, terminated=p.marks, truncated=p.marks)),
        "functional.returns.gamma_like": (returns.gamma_like, f(gamma=0.9, reward=p.reward)),
        "functional.returns.discounted_return": (returns.discounted_return, f(reward=p.reward,
            last_value=torch.randn(B, 1), gamma=0.9, terminated=p.marks)),
        "functional.returns.alive_steps": (returns.alive_steps, f(terminated=p.marks,
            dtype=torch.float32)),
        "functional.returns.restarted_return": (returns.restarted_return, f(reward=p.reward,
            next_value=value, gamma=0.9, terminated=p.marks, truncated=p.marks,
            published=False)),
        "functional.rewards.tolerance": (rewards.tolerance, f(x=p.noise, bounds=(0.0, 1.0),
            margin=0.5, sigmoid="linear", value_at_margin=0.1)),
        "tolerance": (sdk.tolerance, f(x=p.noise, bounds=(0.0, 1.0), margin=0.5,
            sigmoid="linear", value_at_margin=0.1)),
        "functional.scale.quantile_range": (scale.quantile_range, f(values=p.noise, low=0.1,
            high=0.9)),
        "functional.scale.running_scale": (scale.running_scale, f(scale=torch.ones(()),
            values=p.noise, tau=0.1, low=0.1, high=0.9, floor=1.0)),
        "functional.twohot.symlog": (twohot.symlog, f(x=p.noise)),
        "functional.twohot.symexp": (twohot.symexp, f(x=p.noise)),
        "functional.twohot.bin_centers": (twohot.bin_centers, f(num_bins=11, low=-5.0, high=5.0,
            like=p.noise)),
        "functional.twohot.two_hot": (twohot.two_hot, f(x=torch.randn(B, 1), num_bins=11,
            low=-5.0, high=5.0)),
        "functional.twohot.two_hot_mean": (twohot.two_hot_mean, f(logits=torch.randn(B, 11),
            low=-5.0, high=5.0)),
        "functional.twohot.two_hot_decode": (twohot.two_hot_decode, f(logits=torch.randn(B, 11),
            low=-5.0, high=5.0)),
    }  # fmt: skip


@functools.cache
def methods() -> dict[str, Call]:
    """Public methods that take arguments."""
    p, f = parts(), dict
    cloning = sdk.BehaviourCloning(sdk.FirstOrderActor(D, A, (8,)), model=p.model)
    plain = sdk.BehaviourCloning(sdk.FirstOrderActor(O, A, (8,)))
    guard = sdk.Disagreement(p.model, heads=1)
    encoder = sdk.WorldModel(16, 6, latent_dim=D, hidden=(8,), encoder_hidden=(8,))
    encoded = sdk.EncodedSimulator(p.simulator, encoder)
    policy, td, dream, mj = pwm(), td_mpc2(), dreamer(), mujoco()
    ppo, sac = sdk.PPO(O, A), sdk.SAC(O, A, sdk.SACConfig(hidden=(8,), batch_size=2))
    members, mppi, sh, loop = population(), planner(), shac(), growing()
    step = f(latent=p.latent, action=p.action, task=None)
    tasked = f(latent=p.latent, action=p.action, task=p.task)
    moves = f(latent=p.state, action=p.pull, task=None)
    both = {
        "PublishedModel": sdk.PublishedModel(p.tasked), "MassSpring": p.simulator,
    }  # fmt: skip
    moments_, value = sdk.RunningMeanStd((O,)), torch.randn(B, 1)
    many, observe = sdk.ReturnScale(P), f(observation=p.observation, task=None)
    state = mj.reset(2)
    found = {
        "BehaviourCloning.__call__": (plain.__call__, f(observation=p.observation)),
        "BehaviourCloning.update": (cloning.update, f(batch=p.batch)),
        "BehaviourCloning.fit": (cloning.fit, f(replay=p.replay, steps=1)),
        "Critic.forward": (p.critic.forward, f(latent=p.latent)),
        "Critic.values": (p.critics.values, f(latent=p.latents)),
        "Critic.unit": (p.critics.unit, f(value=torch.randn(P, B, 1))),
        "Critic.member": (p.critics.member, f(index=0)),
        "Critic.keep": (p.critics.keep, f(members=[1, 0])),
        "Critic.stack": (sdk.Critic.stack, f(critics=[p.critic, p.critic])),
        "Critic.save": (p.critic.save, f(path=p.folder / "critic.safetensors")),
        "Critic.from_checkpoint": (sdk.Critic.from_checkpoint, f(
            path=p.folder / "critic.safetensors")),
        "Disagreement.context": (guard.context, f(task=None)),
        "Disagreement.encode": (guard.encode, observe),
        "Disagreement.step": (guard.step, step),
        "DreamerV3.act": (dream.act, f(observation=p.observation, memory=None, first=None,
            explore=False)),
        "DreamerV3.update": (dream.update, f(batch=p.batch)),
        "DreamerV3.fit": (dream.fit, f(replay=p.replay, steps=1)),
        "EncodedSimulator.encode": (encoded.encode, f(observation=p.state, task=None)),
        "EncodedSimulator.features": (encoded.features, f(latent=p.state)),
        "EncodedSimulator.step": (encoded.step, moves),
        "Execution.on": (sdk.Execution().on, f(device=torch.device("cpu"))),
        "Execution.products": (sdk.Execution().products, f(device=torch.device("cpu"))),
        "Execution.reads_every": (sdk.Execution().reads_every, f(device=torch.device("cpu"))),
        "Execution.tf32": (lambda device: sdk.Execution().tf32(device).__enter__(), f(
            device=torch.device("cpu"))),
        "FirstOrderActor.forward": (p.actor.forward, f(latent=p.latent, noise=p.noise)),
        "FirstOrderActor.loc": (p.actors.loc, f(latent=p.latents)),
        "FirstOrderActor.squash": (p.actor.squash, f(loc=p.noise, noise=p.noise)),
        "FirstOrderActor.log_prob": (p.actor.log_prob, f(loc=p.noise, noise=p.noise)),
        "FirstOrderActor.set_std": (p.actors.set_std, f(std=0.5)),
        "FirstOrderActor.member": (p.actors.member, f(index=0)),
        "FirstOrderActor.keep": (p.actors.keep, f(members=[1, 0])),
        "FirstOrderActor.stack": (sdk.FirstOrderActor.stack, f(actors=[p.actor, p.actor])),
        "FirstOrderActor.save": (p.actor.save, f(path=p.folder / "actor.safetensors")),
        "FirstOrderActor.from_checkpoint": (sdk.FirstOrderActor.from_checkpoint, f(
            path=p.folder / "actor.safetensors")),
        "GrowingBatch.alarms": (loop.alarms, f(episodes=[[p.episode]], deterministic=True)),
        "GrowingBatch.collect_seed": (loop.collect_seed, f(episodes=[1])),
        "GrowingBatch.improve": (loop.improve, f(updates=1)),
        "GrowingBatch.refresh_statistics": (loop.refresh_statistics, f(observations=True)),
        "GrowingBatch.run_round": (loop.run_round, f(progress=0.5)),
        "LatentBehaviour.__call__": (sdk.LatentBehaviour(p.model, [p.actor], [0]).__call__, f(
            observation=p.seen)),
        "LatentBehaviour.start": (sdk.LatentBehaviour(p.model, [p.actor], [0]).start, f(index=0)),
        "LatentRollout.__call__": (p.rollout.__call__, f(latent=p.latent, task=None,
            noise=torch.randn(H, B, A), restart=None)),
        "LatentRollout.draw_noise": (p.rollout.draw_noise, f(latent=p.latent, policy=p.actor)),
        "MPPI.__call__": (mppi.__call__, f(latent=p.latent)),
        "MPPI.given": (mppi.given, f(context=p.context)),
        "MPPI.plan": (planner().plan, f(observation=p.observation, task=None, choice="mean")),
        "MPPI.reset": (mppi.reset, f(index=0)),
        "MuJoCoModel.encode": (mj.encode, f(observation=torch.zeros(2, 2, dtype=torch.float64),
            task=None)),
        "MuJoCoModel.features": (mj.features, f(latent=state)),
        "MuJoCoModel.view": (mj.view, f(latent=state)),
        "MuJoCoModel.reset": (mj.reset, f(count=1, generator=torch.Generator())),
        "MuJoCoModel.step": (mj.step, f(latent=state, action=torch.zeros(2, 1), task=None)),
        "ObservationBehaviour.__call__": (sdk.ObservationBehaviour(nn.Linear(O, A)).__call__, f(
            observation=p.seen)),
        "ObservationBehaviour.start": (sdk.ObservationBehaviour(nn.Linear(O, A)).start, f(
            index=0)),
        "PPO.__call__": (ppo.__call__, f(observation=p.observation)),
        "PPO.explore": (ppo.explore, f(observation=p.observation)),
        "PPO.update": (ppo.update, f(batch=transitions_of((2, 4)))),
        "PPO.fit": (ppo.fit, f(data=[transitions_of((2, 4))], steps=8)),
        "PPO.set_learning_rates": (ppo.set_learning_rates, f(factor=0.5)),
        "PWM.update": (policy.update, f(batch=p.batch)),
        "PWM.fit": (policy.fit, f(replay=p.replay, steps=1, tasks=None, batch_size=2)),
        "PWM.set_learning_rates": (policy.set_learning_rates, f(factor=0.5)),
        "PWMConfig.published": (sdk.PWMConfig.published, f()),
        "PlannerBehaviour.__call__": (sdk.PlannerBehaviour(planner(), [0]).__call__, f(
            observation=p.seen)),
        "PlannerBehaviour.start": (sdk.PlannerBehaviour(planner(), [0]).start, f(index=0)),
        "PolicyPrior.distribution": (p.prior.distribution, f(latent=p.latent,
            context=p.context)),
        "PolicyPrior.forward": (p.prior.forward, f(latent=p.latent, context=p.context,
            noise=p.noise)),
        "PolicyPrior.given": (p.prior.given, f(context=p.context)),
        "PolicyPrior.for_model": (sdk.PolicyPrior.for_model, f(model=p.model)),
        "PolicyPrior.save": (p.prior.save, f(path=p.folder / "prior.safetensors")),
        "PolicyPrior.from_checkpoint": (sdk.PolicyPrior.from_checkpoint, f(
            path=p.folder / "prior.safetensors")),
        "PolicyValue.__call__": (sdk.PolicyValue(p.q.given(None), p.actor).__call__, f(
            latent=p.latent)),
        "PolicyValue.given": (sdk.PolicyValue(p.q, p.actor).given, f(context=None, draws=None)),
        "Population.keep": (lambda **more: population().keep(**more), f(members=[1, 0])),
        "Population.member_state": (members.member_state, f(index=0)),
        "Population.load_members": (members.load_members, f(
            states=[members.member_state(0), members.member_state(1)])),
        "Population.update": (members.update, f(batch=p.replay.sample_starts([0, 0], B))),
        "Population.fit": (members.fit, f(replay=p.replay, steps=1, tasks=[0, 0], batch_size=2)),
        "Population.set_learning_rates": (members.set_learning_rates, f(factor=0.5)),
        "Prefetcher.keep": (sdk.Prefetcher(p.replay.starts([0, 0], 2, [1, 2])).keep, f(
            members=[1, 0])),
        "QEnsemble.logits": (p.q.logits, f(latent=p.latent, action=p.action, context=p.context,
            heads=torch.tensor([0]))),
        "QEnsemble.value": (p.q.value, f(latent=p.latent, action=p.action, context=p.context,
            reduce="min", heads=torch.tensor([0]), generator=torch.Generator())),
        "QEnsemble.decode": (p.q.decode, f(logits=torch.randn(B, 11))),
        "QEnsemble.error": (p.q.error, f(logits=torch.randn(5, B, 11), target=value)),
        "QEnsemble.draw_heads": (p.q.draw_heads, f(generator=torch.Generator())),
        "QEnsemble.given": (p.q.given, f(context=p.context, generator=torch.Generator())),
        "QEnsemble.for_model": (sdk.QEnsemble.for_model, f(model=p.model)),
        "QEnsemble.save": (p.q.save, f(path=p.folder / "q.safetensors")),
        "QEnsemble.from_checkpoint": (sdk.QEnsemble.from_checkpoint, f(
            path=p.folder / "q.safetensors")),
        "RandomBehaviour.__call__": (sdk.RandomBehaviour(1, A, 0).__call__, f(
            observation=p.seen)),
        "RandomBehaviour.start": (sdk.RandomBehaviour(1, A, 0).start, f(index=0)),
        "RecurrentBehaviour.__call__": (sdk.RecurrentBehaviour(dream.act).__call__, f(
            observation=p.seen)),
        "RecurrentBehaviour.start": (sdk.RecurrentBehaviour(dream.act).start, f(index=0)),
        "ReplayBuffer.add": (p.replay.add, f(episode=episode())),
        "ReplayBuffer.sample": (p.replay.sample, f(batch_size=2)),
        "ReplayBuffer.sample_starts": (p.replay.sample_starts, f(tasks=[0], count=2)),
        "ReplayBuffer.starts": (p.replay.starts, f(tasks=[0, 0], count=2, seeds=[1, 2])),
        "ReplayBuffer.statistics": (p.replay.statistics, f(task=0)),
        "ReplayBuffer.episodes": (p.replay.episodes, f(task=0)),
        "ReplayBuffer.iter_episodes": (p.replay.iter_episodes, f(task=0)),
        "ReplayBuffer.num_episodes": (p.replay.num_episodes, f(task=0)),
        "ReturnDeviation.update": (sdk.ReturnDeviation(P).update, f(returns=torch.randn(P, B, 1))),
        "ReturnScale.update": (many.update, f(returns=torch.randn(P, B, 1))),
        "RunningMeanStd.update": (moments_.update, f(values=p.observation)),
        "RunningMeanStd.normalize": (moments_.normalize, f(values=p.observation)),
        "RunningMeanStd.unnormalize": (moments_.unnormalize, f(values=p.observation)),
        "SAC.__call__": (sac.__call__, f(observation=p.observation)),
        "SAC.explore": (sac.explore, f(observation=p.observation)),
        "SAC.update": (sac.update, f(batch=transitions_of((4,)))),
        "SAC.fit": (sac.fit, f(data=[transitions_of((1, 4))], replay=None)),
        "SHAC.encode": (sh.encode, f(observation=p.state, task=None)),
        "SHAC.fit": (sh.fit, f(steps=1)),
        "SHAC.set_learning_rates": (sh.set_learning_rates, f(factor=0.5)),
        "TDMPC2.losses": (td.losses, f(batch=p.batch, task=None)),
        "TDMPC2.update": (td.update, f(batch=p.batch)),
        "TDMPC2.fit": (td.fit, f(replay=p.replay, steps=1)),
        "TDMPC2.set_learning_rates": (td.set_learning_rates, f(factor=0.5)),
        "TDMPC2Config.published": (sdk.TDMPC2Config.published, f(gamma=0.9, rho=0.5)),
        "TDMPC2Config.pwm_pretraining": (sdk.TDMPC2Config.pwm_pretraining, f(gamma=0.9, rho=0.5)),
        "Task.score": (sdk.MT80["walker-run"].score, f(episode_return=1.0, success=1.0)),
        "TaskSet.__getitem__": (sdk.MT80.__getitem__, f(key="walker-run")),
        "TaskSet.subset": (sdk.MT80.subset, f(names=["walker-run"])),
        "WorldModel.context": (p.tasked.context, f(task=p.task)),
        "WorldModel.encode": (p.tasked.encode, f(observation=p.observation, task=p.task)),
        "WorldModel.inputs": (p.tasked.inputs, tasked),
        "WorldModel.next": (p.tasked.next, tasked),
        "WorldModel.reward": (p.tasked.reward, tasked),
        "WorldModel.reward_logits": (p.tasked.reward_logits, tasked),
        "WorldModel.step": (p.tasked.step, tasked),
        "WorldModel.terminated": (p.tasked.terminated, f(latent=p.latent, task=p.task)),
        "WorldModel.termination_logits": (p.tasked.termination_logits, f(latent=p.latent,
            task=p.task)),
        "WorldModel.decode_reward": (p.model.decode_reward, f(logits=torch.randn(B, 11))),
        "WorldModel.reward_error": (p.model.reward_error, f(logits=torch.randn(B, 11),
            reward=value)),
        "WorldModel.set_observation_statistics": (p.tasked.set_observation_statistics, f(
            mean=torch.zeros(O), std=torch.ones(O), task=0)),
        "WorldModel.save": (p.model.save, f(path=p.folder / "model.safetensors")),
        "WorldModel.from_checkpoint": (sdk.WorldModel.from_checkpoint, f(
            path=p.folder / "model.safetensors", tasks=None)),
        "WorldModel.from_size": (sdk.WorldModel.from_size, f(size=1, tasks=sdk.MT30)),
        "FiniteWatch.note": (lambda name: FiniteWatch(["loss"], 2).note(name, torch.ones(())), f(
            name="loss")),
    }  # fmt: skip
    for name, model in both.items():
        call = moves if name == "MassSpring" else tasked
        found[f"{name}.step"] = model.step, call
        seen = f(observation=p.state, task=None) if call is moves else f(
            observation=p.observation, task=p.task)  # fmt: skip
        found[f"{name}.encode"] = model.encode, seen
    published = both["PublishedModel"]
    found |= {
        "PublishedModel.context": (published.context, f(task=p.task)),
        "PublishedModel.next": (published.next, tasked),
        "PublishedModel.reward": (published.reward, tasked),
        "MassSpring.features": (p.simulator.features, f(latent=p.state)),
        "MassSpring.reset": (p.simulator.reset, f(count=2, generator=torch.Generator())),
    }
    return found


@functools.cache
def every_call() -> dict[str, Call]:
    """All of them."""
    return {**constructors(), **functions(), **methods()}
