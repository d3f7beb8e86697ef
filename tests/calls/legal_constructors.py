"""A smallest legal call of every public class."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import numpy as np
import torch
from legal_parts import (
    A,
    B,
    Call,
    D,
    H,
    O,
    P,
    Point,
    dreamer,
    parts,
    population_of_one,
    pwm,
)
from torch import nn

import pwm_sdk as sdk
from pwm_sdk.execution.finite import FiniteWatch

CART = """
<mujoco><worldbody><body><joint name="x" type="slide" axis="1 0 0"/><geom size="0.1"/></body>
</worldbody><actuator><motor joint="x" ctrlrange="-1 1"/></actuator></mujoco>
"""


@functools.cache
def _objects() -> SimpleNamespace:
    """What the calls below share."""
    p = parts()
    f = dict
    networks = f(model=p.model, actor=p.actor, critic=p.critic)
    own = locals()
    return SimpleNamespace(**own)


def _part_1() -> dict[str, Call]:
    p, f = parts(), dict
    o = _objects()
    return {
        "BehaviourCloning": (sdk.BehaviourCloning, f(actor=p.actor, config=None, model=p.model,
            execution=None)),
        "BehaviourCloningConfig": (sdk.BehaviourCloningConfig, f(lr=1e-3, max_norm=10.0)),
        "Critic": (sdk.Critic, f(latent_dim=D, hidden=(8,), ensemble=2, population=None,
            reduce="min", scale=1.0, activation="mish", norm="post_activation", output_gain=1.0)),
        "Disagreement": (sdk.Disagreement, f(model=p.model, heads=1, coef=1.0)),
        "EncodedSimulator": (sdk.EncodedSimulator, f(simulator=p.simulator,
            encoder=sdk.WorldModel(16, 6, latent_dim=D, hidden=(8,), encoder_hidden=(8,)))),
        "EnvPool": (sdk.EnvPool, f(envs=[Point()], workers=0)),
        "Episode": (sdk.Episode, vars(p.episode)),
        "Execution": (sdk.Execution, f(compile=False, precision="fp32", cuda_graphs=False,
            check_every=1)),
        "FirstOrderActor": (sdk.FirstOrderActor, f(latent_dim=D, action_dim=A, hidden=(8,),
            population=None, action_dims=[A], std=0.3, min_std=0.2, learn_std=True,
            noise="pre_tanh", activation="mish", norm="post_activation", output_gain=1.0)),
        "LatentBehaviour": (sdk.LatentBehaviour, f(model=p.model, actors=[p.actor], tasks=[0],
            rng=np.random.default_rng(0), correlation=0.5)),
        "LatentTracker": (sdk.LatentTracker, f(model=p.model)),
        "LatentRollout": (sdk.LatentRollout, f(model=p.model, policy=p.actor, horizon=H,
            detach=False, generator=torch.Generator(), compile=False)),
        "Learner": (sdk.Learner, f(pwm=pwm(), tasks=[0], starts=4, every=1)),
        "MPPI": (sdk.MPPI, f(model=p.model, policy=p.actor, value=p.critic, horizon=2, samples=8,
            elites=2, policy_samples=2, iterations=1, temperature=0.5, std=(0.05, 2.0),
            gamma=0.9, generator=torch.Generator(), execution=None)),
        "MassSpring": (sdk.MassSpring, f(columns=2, rows=2, spacing=0.1, mass=0.1, stiffness=300.0,
            damping=0.5, stroke=0.3, friction=0.8, ground=2000.0, timestep=0.016, substeps=2,
            episode_length=5)),
        "MuJoCoModel": (sdk.MuJoCoModel, f(model=CART,
            reward=lambda before, action, after: after.qpos - 0.1 * action, features=None,
            terminated=None, start=None, substeps=1, action_repeat=1, episode_length=5,
            sensors=False, integrator="implicitfast", threads=1, dtype=torch.float64)),
        "ObservationPolicy": (sdk.ObservationPolicy, f(actor=p.actor, model=p.model, tasks=0,
            choice="mean", rng=np.random.default_rng(0), correlation=0.5, low=-1.0, high=1.0)),
        "PPO": (sdk.PPO, f(observation_dim=O, action_dim=A, config=None, actor=nn.Linear(O, A),
            critic=nn.Linear(O, 1), observations=sdk.RunningMeanStd((O,)),
            returns=sdk.RunningMeanStd((1,)), execution=None)),
        "PPOConfig": (sdk.PPOConfig, f(gamma=0.9, lam=0.9, lr=1e-3, clip=0.2, epochs=1,
            minibatch=4, entropy=0.1, value=0.5, max_norm=0.5, hidden=(8,), std=1.0)),
        "ProgressBar": (sdk.ProgressBar, f(total=10, name="", unit="update", show=("return",),
            shown=None)),
        "PWM": (sdk.PWM, f(**o.networks, config=sdk.PWMConfig(horizon=H),
            return_scale=sdk.ReturnScale(), generator=torch.Generator(),
            execution=sdk.Execution())),
    }  # fmt: skip


def _part_2() -> dict[str, Call]:
    p, f = parts(), dict
    return {
        "PWMConfig": (sdk.PWMConfig, f(horizon=H, gamma=0.9, lam=0.9, actor_lam=0.9, actor_lr=1e-3,
            critic_lr=1e-3, betas=(0.7, 0.9), actor_max_norm=1.0, critic_max_norm=1.0,
            critic_epochs=1, critic_splits=1, critic_limit=1, saturation=0.1, behaviour=0.1,
            target_tau=0.1, average_tau=0.1, detach=False, extra_discount=False,
            symlog_reward=False, mask_actions=True, shuffle=True, return_scale="none")),
        "PolicyPrior": (sdk.PolicyPrior, f(latent_dim=D, action_dim=A, task_dim=0, hidden=(8,),
            log_std=(-10.0, 2.0), activation="mish")),
        "PolicyValue": (sdk.PolicyValue, f(q=p.q, policy=p.actor, generator=torch.Generator())),
        "Population": (sdk.Population, f(model=p.model, actor=p.actors, critic=p.critics,
            config=sdk.PWMConfig(horizon=H), seeds=[1, 2], rates=[1.0, 0.5],
            return_scale=sdk.ReturnScale(P), generator=torch.Generator())),
        "Prefetcher": (sdk.Prefetcher, f(source=p.replay, device="cpu", depth=0)),
        "QEnsemble": (sdk.QEnsemble, f(latent_dim=D, action_dim=A, task_dim=0, hidden=(8,),
            ensemble=2, num_bins=11, dropout=0.01, activation="mish")),
        "RandomBehaviour": (sdk.RandomBehaviour, f(count=1, action_dim=A, seed=0, hold=2)),
        "EpisodeCutter": (sdk.EpisodeCutter, f(task=0, bounds=(-1.0, 1.0), absorbing=1)),
        "ReplayBuffer": (sdk.ReplayBuffer, f(capacity=100, slice_len=H + 1, batch_size=B,
            task_weights={0: 1.0}, recent=0.5, device="cpu", seed=0)),
        "ReturnScale": (sdk.ReturnScale, f(population=P, decay=0.9, low=0.05, high=0.95,
            floor=0.1)),
        "RoundReport": (sdk.RoundReport, f(updates=1, train_return=np.ones(1), alarms={},
            metrics={"loss": 0.5}, train_seconds=1.0, collect_seconds=1.0, left_out=0)),
        "RoundConfig": (sdk.RoundConfig, f(updates=1, first_updates=1, rho=0.7, consistency=1.0,
            reward=1.0, model_max_norm=1.0, reward_weight_gain=0.1, reward_weight_eps=0.1,
            reward_weight_cap=1.0, std=(0.6, 0.2), std_share=0.5, correlation=0.8,
            decay_share=0.2, decay_floor=0.1, statistics_rounds=1, hold=2)),
        "RunningMeanStd": (sdk.RunningMeanStd, f(shape=(O,), limit=5.0, eps=1e-5)),
        "SAC": (sdk.SAC, f(observation_dim=O, action_dim=A, config=sdk.SACConfig(hidden=(8,)),
            actor=nn.Linear(O, 2 * A), critic=None, execution=None)),
        "SACConfig": (sdk.SACConfig, f(gamma=0.9, tau=0.1, lr=1e-3, batch_size=4, capacity=10,
            random_steps=2, updates_per_step=1.0, alpha=1.0, target_entropy=-1.0, hidden=(8,),
            log_std=(-5.0, 2.0))),
        "SHAC": (sdk.SHAC, f(model=p.simulator, actor=p.sim_actor, critic=p.sim_critic,
            config=sdk.SHACConfig(environments=2, horizon=2, critic_epochs=1, critic_splits=1),
            normalizer=sdk.RunningMeanStd((16,)), generator=torch.Generator(), execution=None)),
        "SHACConfig": (sdk.SHACConfig, f(environments=2, horizon=2, gamma=0.9, lam=0.9,
            actor_lam=0.9, actor_lr=1e-3, critic_lr=1e-3, betas=(0.7, 0.9), actor_max_norm=1.0,
            critic_max_norm=1.0, critic_epochs=1, critic_splits=1, target_tau=0.1,
            cotangent_clip=1.0, saturation=0.1)),
        "SimulatorEnv": (sdk.SimulatorEnv, f(model=p.simulator)),
        "TDMPC2": (sdk.TDMPC2, f(model=p.model, q=p.q, prior=p.prior, config=sdk.TDMPC2Config(),
            generator=torch.Generator(), synchronize=False, execution=None)),
        "TDMPC2Config": (sdk.TDMPC2Config, f(gamma=0.9, rho=0.5, lr=1e-3, encoder_lr=1e-3,
            max_norm=1.0, tau=0.1, consistency=1.0, reward=0.1, value=0.1, termination=1.0,
            entropy=0.1, entropy_kind="action", carry_gradient=False, dropout_everywhere=False)),
    }  # fmt: skip


def _part_3() -> dict[str, Call]:
    p, f = parts(), dict
    ppo = sdk.PPO(O, A, sdk.PPOConfig(hidden=(8,), epochs=1))
    return {
        "AgentLoop": (sdk.AgentLoop, f(agent=ppo, pool=p.pool, replay=None, steps=4, every=2,
            updates_per_step=0.5, updates=1, seed_steps=1, floor=0.5, names=["point"],
            test_pool=p.pool, seed=0)),
        "LatentEnv": (sdk.LatentEnv, f(model=p.model)),
        "OnlineConfig": (sdk.OnlineConfig, f(latent_dim=8, hidden=8, task_dim=2, simnorm_size=4,
            world_model={"num_bins": 0}, model_horizon=2, model_lr=1e-3, encoder_lr=1e-3,
            actor=(8,), critic=(8,), ensemble=1, activation="silu", norm="pre_activation", starts=2,
            rows=4, capacity=100, recent=0.5, update_share=0.5, short=True)),
        "Run": (sdk.Run, f(folder=p.folder / "run", loop=growing_batch(), settings={"a": 1},
            readings=1, episodes=1, seed=0, save_every=1, wait=0.0)),
        "TaskPlan": (sdk.TaskPlan, f(gamma=0.9, rows=4, length=5, episodes=1, seed_episodes=1,
            horizon=2, starts=2)),
        "Task": (sdk.Task, f(name="point", index=200, suite="own", observation_dim=O,
            action_dim=A, episode_length=5, action_repeat=1, reward_scale=1.0, score_scale=5.0,
            custom=False, terminates=False)),
        "TaskSet": (sdk.TaskSet, f(tasks=[sdk.MT80["walker-run"]], observation_dim=30,
            action_dim=6)),
        "WorldModel": (sdk.WorldModel, f(observation_dim=O, action_dim=A, num_tasks=2, task_dim=4,
            latent_dim=D, hidden=(8,), encoder_hidden=(8,), num_bins=11, simnorm_size=4,
            action_dims=[A, 1], activation="mish", standardize=False, init="fan_in",
            task_init=0.1, episodic=False, spectral_norm=False)),
        "DreamerV3": (sdk.DreamerV3, f(observation_dim=O, action_dim=A, config=dreamer().config,
            execution=None)),
        "DreamerV3Config": (sdk.DreamerV3Config, f(hidden=8, layers=1, belief=8, blocks=2,
            categoricals=2, classes=2, unimix=0.01, bins=11, horizon=2, gamma=0.9, lam=0.9,
            entropy=0.1, free_nats=1.0, replay_value=0.3, tau=0.1, lr=1e-3, max_norm=1.0)),
        "RSSMModel": (sdk.RSSMModel, f(observation_dim=O, action_dim=A, config=dreamer().config,
            episodic=False, sampled=False)),
        "FiniteWatch": (FiniteWatch, f(names=["loss"], every=1, device="cpu", captured=False,
            population=None)),
        "FolderLock": (sdk.FolderLock, f(folder=parts().folder, handle=0)),
    }  # fmt: skip


def _growing_batch() -> Call:
    p = parts()
    return sdk.GrowingBatch, dict(pool=p.pool, model=p.model,
            model_optimizer=torch.optim.Adam(p.model.parameters()),
            learners=[sdk.Learner(population_of_one(), [0], 4)], replay=p.replay,
            config=sdk.RoundConfig(updates=1, first_updates=1), reward_scale=[1.0], lengths=[4],
            episodes=[1], seed_episodes=[1], names=["point"], test_pool=p.pool, seed=0,
            weight=1.0, execution=None, model_loss=sdk.world_model_loss)  # fmt: skip


def growing_batch() -> sdk.GrowingBatch:
    """A growing batch of one task."""
    call, settings = _growing_batch()
    return call(**settings)


@functools.cache
def constructors() -> dict[str, Call]:
    """Public classes."""
    return {**_part_1(), **_part_2(), **_part_3(), "GrowingBatch": _growing_batch()}
