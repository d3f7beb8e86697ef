"""A smallest legal call of every public function."""

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
    Point,
    fresh,
    named,
    parts,
    pwm,
    world_model,
)
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
from pwm_sdk.optim import scale_learning_rates


@functools.cache
def _objects() -> SimpleNamespace:
    """What the calls below share."""
    p, f = parts(), dict
    value, mask = torch.randn(B, H, 1), torch.ones(B, A)
    loss = lambda: p.actor.loc(p.latent).square().mean()  # noqa: E731
    coefficients = f(rho=0.5, consistency=1.0, reward=1.0, termination=1.0)
    flat = torch.cat([x.flatten() for x in p.actor.parameters()]).detach()
    point = {"updates": 1, "steps": 5, "seconds": 1.0, "tasks": {"walk": {"return": 2.0}}}
    sdk.write_json(p.folder / "report" / "curve.json", {"curve": [point]})
    run, result, saved = sdk.run_identity({}), p.folder / "result.json", p.folder / "state.pt"
    sdk.write_result(result, {"score": 1.0}, run)
    sdk.save_state(saved, {"step": 1}, {"seed": 1})
    own = locals()
    return SimpleNamespace(**own)


def _part_1() -> dict[str, Call]:
    p, f = parts(), dict
    o = _objects()
    return {
        "actor_loss": (sdk.actor_loss, f(trajectory=p.trajectory, critic=p.critic, gamma=0.9,
            lam=0.9, scale=1.0, saturation=0.1, returns=torch.randn(B, 1))),
        "behaviour_loss": (sdk.behaviour_loss, f(policy=p.actor, latents=p.latent,
            actions=p.action)),
        "check_latent_model": (sdk.check_latent_model, f(model=p.model,
            observation=p.observation, task=None)),
        "critic_loss": (sdk.critic_loss, f(critic=p.critic, latents=p.latent,
            targets=torch.randn(B, 1), weight=torch.ones(B, 1))),
        "evaluate": (sdk.evaluate, f(env=Point(), policy=p.acting, episodes=1, task=0,
            workers=0)),
        "evaluate_members": (sdk.evaluate_members, f(envs=[Point(), Point()],
            policy=p.team, episodes=1, tasks=[0, 0], seeds=[1, 2], workers=0)),
        "exploitation_gap": (sdk.exploitation_gap, f(model=p.model, actor=p.actors,
            critic=p.critics, episodes=[[p.episode], [p.episode]], tasks=[0, 0], gamma=0.9,
            reward_scale=[1.0, 1.0], horizon=3, count=2, rng=np.random.default_rng(0),
            deterministic=True)),
        "observed_latents": (sdk.observed_latents, f(model=p.model,
            observation=p.batch[keys.OBSERVATION], action=p.batch[keys.ACTION], task=None,
            first=torch.zeros(B, H + 1, 1, dtype=torch.bool))),
        "frozen": (lambda modules: sdk.frozen(modules).__enter__(), f(modules=p.actor)),
        "gradient_statistics": (sdk.gradient_statistics, f(gradients=torch.randn(4, 5),
            reference=torch.randn(4, 5))),
        "imagined_returns": (sdk.imagined_returns, f(trajectory=p.trajectory, critic=p.critic,
            gamma=0.9, lam=None, extra_discount=True)),
        "init_fan_in": (sdk.init_fan_in, f(module=world_model())),
        "init_orthogonal": (sdk.init_orthogonal, f(module=sdk.Critic(D, (8,)), gain=1.0)),
        "init_uniform": (sdk.init_uniform, f(module=sdk.Critic(D, (8,)))),
        "lambda_targets": (sdk.lambda_targets, f(trajectory=p.trajectory, critic=p.critic,
            gamma=0.9, lam=0.9)),
        "model_optimizer": (sdk.model_optimizer, f(model=world_model(), lr=1e-3, encoder_lr=3e-4)),
        "make_env": (sdk.make_env, f(task="cartpole-swingup", seed=0, padded=False,
            tasks=sdk.MT80, device="cpu", batch=2)),
        "make_pool": (sdk.make_pool, f(envs="mass-spring", batch=2, seed=0, padded=False,
            tasks=sdk.MT80, workers=0, max_steps=5, timeout=9.0)),
        "make_gym": (sdk.make_gym, f(task="cartpole-swingup", seed=0, padded=False,
            tasks=sdk.MT80)),
        "make_episode": (sdk.make_episode, f(observations=np.zeros((4, O), np.float32),
            actions=np.zeros((3, A), np.float32), rewards=np.zeros(3, np.float32), task=0,
            terminated=np.array([False, False, True]), absorbing=1)),
        "make_logger": (sdk.make_logger, f(folder=p.folder / "log", kinds=("csv",), every=1,
            project=None, offline=False)),
        "make_simulator": (sdk.make_simulator, f(name="hopper-stand", margin=0.1, threads=1,
            dtype=torch.float32)),
        "minibatches": (lambda tensors, **more: list(sdk.minibatches(tensors, **more)), f(
            tensors=torch.randn(B, H, D), epochs=1, splits=2, limit=1, shuffle=True,
            generator=torch.Generator())),
        "optimize": (lambda **more: sdk.optimize(**{"loss": o.loss(), **more}), f(
            optimizer=torch.optim.SGD(p.actor.parameters(), lr=0.0), max_norm=1.0,
            population=None, synchronize=False, watch=None, name="loss")),
    }  # fmt: skip


def _part_2() -> dict[str, Call]:
    p, f = parts(), dict
    o = _objects()
    return {
        "model_size": (sdk.model_size, f(size=1, tasks=sdk.MT30)),
        "policy_gradients": (sdk.policy_gradients, f(model=p.model, policy=p.actor,
            latent=p.latent, horizons=[1, 2], gamma=0.9, estimator="pathwise",
            noise=torch.randn(2, B, A), task=None)),
        "pwm_model_loss": (sdk.pwm_model_loss, f(model=p.model, batch=p.batch, gamma=0.9)),
        "register_task": (sdk.register_task, f(
            task=sdk.Task("calls-point", 7001, "own", O, A, 5), factory=Point)),
        "return_landscape": (sdk.return_landscape, f(model=p.model, policy=p.actor,
            latent=p.latent, direction=torch.zeros_like(o.flat), offsets=torch.tensor([0.0]),
            horizons=[2], gamma=0.9, noise=torch.randn(2, B, A), task=None)),
        "run_episodes": (sdk.run_episodes, f(pool=p.pool, behaviour=p.policy, quota=[1],
            lengths=[2], seeds=[3], on_step=lambda: None)),
        "soft_update": (sdk.soft_update, f(target=nn.Linear(2, 2), source=nn.Linear(2, 2),
            tau=0.1)),
        "summarize": (sdk.summarize, f(episodes=[p.episode])),
        "from_tdmpc2_chunks": (sdk.from_tdmpc2_chunks, f(paths=[p.folder / "chunk_0.pt"],
            out=p.folder / "out", tasks=sdk.MT80, episode_length=3)),
        "to_tdmpc2_chunks": (lambda out, **more: sdk.to_tdmpc2_chunks(out=fresh(out),
            **more), f(source=p.replay, out=p.folder,
            tasks=[0], episode_length=3, chunk_episodes=2)),
        "to_minari": (lambda dataset_id, **more: sdk.to_minari(
            dataset_id=named(dataset_id), **more), f(source=p.replay, dataset_id="calls/point-v0",
            task=sdk.Task("point", 0, "own", O, A, 5))),
        "fit": (sdk.fit, f(agent=pwm(), batches=p.replay, updates=1, schedule=lambda done: 0.5,
            hooks=[lambda step, metrics: None], path=None, save_every=1)),
        "transitions": (lambda **more: next(sdk.transitions(**more)), f(pool=p.pool,
            behaviour=p.policy, steps=2)),
        "world_model_errors": (sdk.world_model_errors, f(model=p.model, batch=p.batch, rho=0.5)),
        "world_model_loss": (sdk.world_model_loss, f(model=p.model, batch=p.batch,
            reward_weight=torch.ones(2), **o.coefficients)),
        "linear_decay": (sdk.linear_decay, f(progress=0.5, floor=0.1, share=0.5, least=0.0)),
        "scale_learning_rates": (scale_learning_rates, f(
            optimizer=torch.optim.SGD(p.actor.parameters(), lr=0.0), factor=0.5)),
        "discount_of": (discount_of, f(gamma=0.9, population=None, device=torch.device("cpu"))),
        "functional.activations.mish": (sdk.functional.mish, f(x=p.latent)),
        "functional.gaussian.bounded_log_std": (gaussian.bounded_log_std, f(raw=p.noise, low=-1.0,
            high=1.0)),
        "functional.gaussian.gaussian_log_prob": (gaussian.gaussian_log_prob, f(noise=p.noise,
            log_std=torch.zeros(B, A))),
        "functional.gaussian.tanh_log_slope": (gaussian.tanh_log_slope, f(action=p.action)),
        "functional.gradients.clip_cotangent": (gradients.clip_cotangent, f(x=p.latent, limit=1.0,
            on_clip=None)),
    }  # fmt: skip


def _part_3() -> dict[str, Call]:
    p, f = parts(), dict
    o = _objects()
    return {
        "functional.losses.two_hot_loss": (losses.two_hot_loss, f(logits=torch.randn(B, 11),
            value=torch.randn(B, 1), low=-5.0, high=5.0)),
        "functional.losses.saturation_penalty": (losses.saturation_penalty, f(loc=p.noise,
            limit=1.0)),
        "functional.losses.saturated_share": (losses.saturated_share, f(loc=p.noise,
            threshold=2.0, mask=o.mask)),
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
            next_value=o.value, gamma=0.9, lam=0.9, terminated=p.marks, truncated=p.marks)),
        "functional.returns.gamma_like": (returns.gamma_like, f(gamma=0.9, reward=p.reward)),
        "functional.returns.discounted_return": (returns.discounted_return, f(reward=p.reward,
            last_value=torch.randn(B, 1), gamma=0.9, terminated=p.marks)),
        "functional.returns.alive_steps": (returns.alive_steps, f(terminated=p.marks,
            dtype=torch.float32)),
        "functional.returns.restarted_return": (returns.restarted_return, f(reward=p.reward,
            next_value=o.value, gamma=0.9, terminated=p.marks, truncated=p.marks,
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


def _files() -> dict[str, Call]:
    p, f = parts(), dict
    o = _objects()
    plan = sdk.TaskPlan(gamma=0.9, rows=4, length=5, episodes=1, seed_episodes=1)
    return {
        "check_agent": (sdk.check_agent, f(agent=sdk.BehaviourCloning(sdk.FirstOrderActor(O, A)),
            batch=p.batch, observation=p.observation)),
        "check_pool": (sdk.check_pool, f(pool=p.pool, steps=6)),
        "clip_cotangent": (sdk.clip_cotangent, f(x=p.latent, limit=1.0, on_clip=lambda m: None)),
        "online_pwm": (sdk.online_pwm, f(task="Pendulum-v1", scale="tiny", seed=0, device="cpu",
            plans=[plan], part=0)),
        "plan_for": (sdk.plan_for, f(task=sdk.MT80["walker-run"], config=sdk.OnlineConfig(),
            alone=True)),
        "seed_for": (sdk.seed_for, f(use="replay", seed=0)),
        "load_state": (sdk.load_state, f(path=o.saved, about={"seed": 1}, remedy="delete it")),
        "lock_folder": (lambda **more: sdk.lock_folder(**more).__enter__(), f(path=p.folder,
            wait=0.0)),
        "read_json": (sdk.read_json, f(path=o.result, kind=dict, remedy="delete it")),
        "read_result": (sdk.read_result, f(path=o.result, run=o.run, remedy="delete it")),
        "run_identity": (sdk.run_identity, f(settings={"lr": 0.1}, part="a")),
        "save_state": (sdk.save_state, f(path=o.saved, state={"step": 1}, about={"seed": 1})),
        "write_json": (sdk.write_json, f(path=p.folder / "value.json", value={"a": [1, 2.0]})),
        "write_report": (sdk.write_report, f(folder=p.folder / "report", scale={"walk": 4.0},
            against="steps")),
        "write_result": (sdk.write_result, f(path=o.result, result={"score": 1.0}, run=o.run)),
    }  # fmt: skip


@functools.cache
def functions() -> dict[str, Call]:
    """Public functions, and those of `pwm_sdk.functional`."""
    return {**_part_1(), **_part_2(), **_part_3(), **_files()}
