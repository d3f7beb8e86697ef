"""A smallest legal call of every public method that takes arguments."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from legal_constructors import constructors
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
    episode,
    minari_like,
    parts,
    planner,
    population,
    pwm,
    td_mpc2,
    transitions_of,
)

import pwm_sdk as sdk
from pwm_sdk.execution.finite import FiniteWatch


def growing() -> Any:
    """A growing batch of one task."""
    call, settings = constructors()["GrowingBatch"]
    return call(**settings)


def shac() -> Any:
    """A SHAC on springs."""
    call, settings = constructors()["SHAC"]
    return call(**settings)


def mujoco() -> Any:
    """A cart on a rail."""
    call, settings = constructors()["MuJoCoModel"]
    return call(**settings)


@functools.cache
def _objects() -> SimpleNamespace:
    """What the calls below share."""
    p, f = parts(), dict
    cloning = sdk.BehaviourCloning(sdk.FirstOrderActor(D, A, (8,)), model=p.model)
    plain = sdk.BehaviourCloning(sdk.FirstOrderActor(O, A, (8,)))
    guard = sdk.Disagreement(p.model, heads=1)
    encoder = sdk.WorldModel(16, 6, latent_dim=D, hidden=(8,), encoder_hidden=(8,))
    encoded = sdk.EncodedSimulator(p.simulator, encoder)
    policy, td, dream, mj = pwm(), td_mpc2(), dreamer(), mujoco()
    ppo, sac = sdk.PPO(O, A), sdk.SAC(O, A, sdk.SACConfig(hidden=(8,), batch_size=2))
    rssm = sdk.RSSMModel(O, A, dream.config)
    belief = rssm.encode(p.observation).detach()
    members, mppi, sh, loop = population(), planner(), shac(), growing()
    agents = constructors()["AgentLoop"][0](**constructors()["AgentLoop"][1])
    run = sdk.Run(p.folder / "methods", growing(), readings=0)
    step = f(latent=p.latent, action=p.action, task=None)
    tasked = f(latent=p.latent, action=p.action, task=p.task)
    moves = f(latent=p.state, action=p.pull, task=None)
    moments_, value = sdk.RunningMeanStd((O,)), torch.randn(B, 1)
    many, observe = sdk.ReturnScale(P), f(observation=p.observation, task=None)
    state, bar = mj.reset(2), sdk.ProgressBar(10)
    report = sdk.RoundReport(1, np.ones(1), {"gap": np.zeros(1)}, {"loss": 0.5}, 1.0, 1.0)
    own = locals()
    return SimpleNamespace(**own)


def _part_1() -> dict[str, Call]:
    p, f = parts(), dict
    o = _objects()
    return {
        "BehaviourCloning.__call__": (o.plain.__call__, f(observation=p.observation)),
        "BehaviourCloning.update": (o.cloning.update, f(batch=p.batch)),
        "Critic.published": (sdk.Critic.published, f(latent_dim=D, hidden=(8,), ensemble=2)),
        "Critic.forward": (p.critic.forward, f(latent=p.latent)),
        "Critic.values": (p.critics.values, f(latent=p.latents)),
        "Critic.unit": (p.critics.unit, f(value=torch.randn(P, B, 1))),
        "Critic.member": (p.critics.member, f(index=0)),
        "Critic.take": (p.critics.take, f(members=[1, 0])),
        "Critic.stack": (sdk.Critic.stack, f(critics=[p.critic, p.critic])),
        "Critic.save": (p.critic.save, f(path=p.folder / "critic.safetensors")),
        "Critic.from_checkpoint": (sdk.Critic.from_checkpoint, f(
            path=p.folder / "critic.safetensors")),
        "Disagreement.context": (o.guard.context, f(task=None)),
        "Disagreement.encode": (o.guard.encode, o.observe),
        "Disagreement.step": (o.guard.step, o.step),
        "DreamerV3.act": (o.dream.act, f(observation=p.observation, memory=None, first=None,
            explore=False)),
        "DreamerV3.set_learning_rates": (o.dream.set_learning_rates, f(factor=0.5)),
        "DreamerV3.update": (o.dream.update, f(batch=p.batch)),
        "EncodedSimulator.encode": (o.encoded.encode, f(observation=p.state, task=None)),
        "EncodedSimulator.features": (o.encoded.features, f(latent=p.state)),
        "EncodedSimulator.step": (o.encoded.step, o.moves),
        "Execution.on": (sdk.Execution().on, f(device=torch.device("cpu"))),
        "Execution.products": (sdk.Execution().products, f(device=torch.device("cpu"))),
        "Execution.reads_every": (sdk.Execution().reads_every, f(device=torch.device("cpu"))),
        "Execution.tf32": (lambda device: sdk.Execution().tf32(device).__enter__(), f(
            device=torch.device("cpu"))),
        "FirstOrderActor.published": (sdk.FirstOrderActor.published, f(latent_dim=D, action_dim=A,
            hidden=(8,))),
        "FirstOrderActor.forward": (p.actor.forward, f(latent=p.latent, noise=p.noise)),
        "FirstOrderActor.loc": (p.actors.loc, f(latent=p.latents)),
        "FirstOrderActor.squash": (p.actor.squash, f(loc=p.noise, noise=p.noise)),
        "FirstOrderActor.log_prob": (p.actor.log_prob, f(loc=p.noise, noise=p.noise)),
        "FirstOrderActor.set_std": (p.actors.set_std, f(std=0.5)),
        "FirstOrderActor.member": (p.actors.member, f(index=0)),
        "FirstOrderActor.take": (p.actors.take, f(members=[1, 0])),
        "FirstOrderActor.stack": (sdk.FirstOrderActor.stack, f(actors=[p.actor, p.actor])),
        "FirstOrderActor.save": (p.actor.save, f(path=p.folder / "actor.safetensors")),
        "FirstOrderActor.from_checkpoint": (sdk.FirstOrderActor.from_checkpoint, f(
            path=p.folder / "actor.safetensors")),
        "GrowingBatch.alarms": (o.loop.alarms, f(episodes=[[p.episode]], deterministic=True)),
        "GrowingBatch.collect_seed": (o.loop.collect_seed, f(episodes=[1])),
        "GrowingBatch.improve": (o.loop.improve, f(updates=1)),
        "GrowingBatch.refresh_statistics": (o.loop.refresh_statistics, f(observations=True)),
        "LatentBehaviour.__call__": (sdk.LatentBehaviour(p.model, [p.actor], [0]).__call__, f(
            observation=p.seen)),
        "LatentBehaviour.start": (sdk.LatentBehaviour(p.model, [p.actor], [0]).start, f(index=0)),
        "LatentBehaviour.actions": (sdk.LatentBehaviour(p.model, [p.actor], [0]).actions, f(
            observation=p.observation[:1])),
        "LatentBehaviour.set_tasks": (sdk.LatentBehaviour(p.model, [p.actor], [0]).set_tasks, f(
            tasks=[0])),
        "LatentEnv.start": (sdk.LatentEnv(p.model).start, f(latent=p.latent, task=None)),
        "LatentRollout.__call__": (p.rollout.__call__, f(latent=p.latent, task=None,
            noise=torch.randn(H, B, A), restart=None)),
    }  # fmt: skip


def _part_2() -> dict[str, Call]:
    p, f = parts(), dict
    o = _objects()
    return {
        "LatentRollout.draw_noise": (p.rollout.draw_noise, f(latent=p.latent, policy=p.actor)),
        "MPPI.__call__": (o.mppi.__call__, f(latent=p.latent)),
        "MPPI.given": (o.mppi.given, f(context=p.context)),
        "MPPI.plan": (planner().plan, f(observation=p.observation, task=None, choice="mean")),
        "MPPI.reset": (o.mppi.reset, f(index=0)),
        "MuJoCoModel.encode": (o.mj.encode, f(observation=torch.zeros(2, 2, dtype=torch.float64),
            task=None)),
        "MuJoCoModel.features": (o.mj.features, f(latent=o.state)),
        "MuJoCoModel.view": (o.mj.view, f(latent=o.state)),
        "MuJoCoModel.reset": (o.mj.reset, f(count=1, generator=torch.Generator())),
        "MuJoCoModel.step": (o.mj.step, f(latent=o.state, action=torch.zeros(2, 1), task=None)),
        "ObservationPolicy.act": (p.acting.act, f(observation=p.observation, task=0)),
        "ObservationPolicy.reset": (p.acting.reset, f(index=0)),
        "ObservationPolicy.behaviour": (p.acting.behaviour, f(tasks=[0], action_dim=A)),
        "ObservationPolicy.bounded": (p.acting.bounded, f(low=-2.0, high=2.0)),
        "ObservationPolicy.for_env": (p.acting.for_env, f(env=Point())),
        "ObservationPolicy.for_tasks": (p.acting.for_tasks, f(tasks=0)),
        "ObservationPolicy.save": (p.acting.save, f(path=p.folder / "policy.safetensors")),
        "ObservationPolicy.load": (sdk.ObservationPolicy.load, f(
            path=p.folder / "acting.safetensors", actor=None, model=None)),
        "ObservationPolicy.export": (p.acting.export, f(path=p.folder / "policy.pt2",
            observation_dim=O)),
        "ObservationPolicy.member": (p.team.member, f(index=0)),
        "PPO.__call__": (o.ppo.__call__, f(observation=p.observation)),
        "PPO.explore": (o.ppo.explore, f(observation=p.observation)),
        "PPO.update": (o.ppo.update, f(batch=transitions_of((2, 4)))),
        "PPO.set_learning_rates": (o.ppo.set_learning_rates, f(factor=0.5)),
        "PWM.update": (o.policy.update, f(batch=p.batch)),
        "PWM.set_learning_rates": (o.policy.set_learning_rates, f(factor=0.5, critic=1.0)),
        "PWMConfig.paper": (sdk.PWMConfig.paper, f()),
        "PWMConfig.published": (sdk.PWMConfig.published, f()),
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
        "Population.member_state": (o.members.member_state, f(index=0)),
        "Population.load_members": (o.members.load_members, f(
            states=[o.members.member_state(0), o.members.member_state(1)])),
        "Population.update": (o.members.update, f(batch=p.replay.sample_starts([0, 0], B))),
        "Population.set_learning_rates": (o.members.set_learning_rates, f(factor=0.5, critic=1.0)),
        "Prefetcher.keep": (sdk.Prefetcher(p.replay.starts([0, 0], 2, [1, 2])).keep, f(
            members=[1, 0])),
        "QEnsemble.logits": (p.q.logits, f(latent=p.latent, action=p.action, context=p.context,
            heads=torch.tensor([0]))),
        "QEnsemble.value": (p.q.value, f(latent=p.latent, action=p.action, context=p.context,
            reduce="min", heads=torch.tensor([0]), generator=torch.Generator())),
    }  # fmt: skip


def _part_3() -> dict[str, Call]:
    p, f = parts(), dict
    o = _objects()
    return {
        "QEnsemble.decode": (p.q.decode, f(logits=torch.randn(B, 11))),
        "QEnsemble.error": (p.q.error, f(logits=torch.randn(5, B, 11), target=o.value)),
        "QEnsemble.draw_heads": (p.q.draw_heads, f(generator=torch.Generator())),
        "QEnsemble.given": (p.q.given, f(context=p.context, generator=torch.Generator())),
        "QEnsemble.for_model": (sdk.QEnsemble.for_model, f(model=p.model)),
        "QEnsemble.save": (p.q.save, f(path=p.folder / "q.safetensors")),
        "QEnsemble.from_checkpoint": (sdk.QEnsemble.from_checkpoint, f(
            path=p.folder / "q.safetensors", target=False)),
        "RandomBehaviour.__call__": (sdk.RandomBehaviour(1, A, 0).__call__, f(
            observation=p.seen)),
        "RandomBehaviour.start": (sdk.RandomBehaviour(1, A, 0).start, f(index=0)),
        "ReplayBuffer.add": (p.replay.add, f(episode=episode())),
        "ReplayBuffer.extend": (p.replay.extend, f(episodes=[episode()])),
        "ReplayBuffer.sample": (p.replay.sample, f(batch_size=2)),
        "ReplayBuffer.sample_starts": (p.replay.sample_starts, f(tasks=[0], count=2,
            history=1)),
        "ReplayBuffer.starts": (p.replay.starts, f(tasks=[0, 0], count=2, seeds=[1, 2])),
        "ReplayBuffer.statistics": (p.replay.statistics, f(task=0)),
        "ReplayBuffer.episodes": (p.replay.episodes, f(task=0)),
        "ReplayBuffer.iter_episodes": (p.replay.iter_episodes, f(task=0)),
        "ReplayBuffer.num_episodes": (p.replay.num_episodes, f(task=0)),
        "ReturnScale.update": (o.many.update, f(returns=torch.randn(P, B, 1))),
        "ProgressBar.log": (o.bar.log, f(metrics={"return": 1.0}, step=3)),
        "ProgressBar.__call__": (o.bar.__call__, f(step=4, metrics={"return": 1.0})),
        "RunningMeanStd.from_checkpoint": (sdk.RunningMeanStd.from_checkpoint, f(
            path=p.folder / "pwm.pt", name="rew_rms", limit=5.0, eps=1e-5)),
        "RunningMeanStd.update": (o.moments_.update, f(values=p.observation)),
        "RunningMeanStd.normalize": (o.moments_.normalize, f(values=p.observation)),
        "RunningMeanStd.unnormalize": (o.moments_.unnormalize, f(values=p.observation)),
        "SAC.__call__": (o.sac.__call__, f(observation=p.observation)),
        "SAC.explore": (o.sac.explore, f(observation=p.observation)),
        "SAC.set_learning_rates": (o.sac.set_learning_rates, f(factor=0.5)),
        "SAC.update": (o.sac.update, f(batch=transitions_of((4,)))),
        "SHAC.update": (o.sh.update, f(batch=None)),
        "SAC.replayed": (lambda stream, replay: list(o.sac.replayed(stream, replay)),
            f(stream=[transitions_of((1, 4))], replay=None)),
        "SHAC.encode": (o.sh.encode, f(observation=p.state, task=None)),
        "SHAC.set_learning_rates": (o.sh.set_learning_rates, f(factor=0.5, critic=1.0)),
        "TDMPC2.policy": (o.td.policy, f(plan=True)),
        "TDMPC2.explorer": (o.td.explorer, f()),
        "TDMPC2.losses": (o.td.losses, f(batch=p.batch, task=None)),
        "TDMPC2.update": (o.td.update, f(batch=p.batch)),
        "TDMPC2.set_learning_rates": (o.td.set_learning_rates, f(factor=0.5)),
        "TDMPC2Config.published": (sdk.TDMPC2Config.published, f(gamma=0.9, rho=0.5)),
        "TDMPC2Config.pwm_pretraining": (sdk.TDMPC2Config.pwm_pretraining, f(gamma=0.9, rho=0.5)),
        "Task.score": (sdk.MT80["walker-run"].score, f(episode_return=1.0, success=1.0)),
        "TaskSet.__getitem__": (sdk.MT80.__getitem__, f(key="walker-run")),
        "TaskSet.subset": (sdk.MT80.subset, f(names=["walker-run"])),
        "WorldModel.context": (p.tasked.context, f(task=p.task)),
        "WorldModel.encode": (p.tasked.encode, f(observation=p.observation, task=p.task)),
        "WorldModel.inputs": (p.tasked.inputs, o.tasked),
        "WorldModel.next": (p.tasked.next, o.tasked),
        "WorldModel.reward": (p.tasked.reward, o.tasked),
        "WorldModel.reward_logits": (p.tasked.reward_logits, o.tasked),
        "WorldModel.step": (p.tasked.step, o.tasked),
    }  # fmt: skip


def _part_4() -> dict[str, Call]:
    p, f = parts(), dict
    o = _objects()
    return {
        "BehaviourCloning.set_learning_rates": (o.cloning.set_learning_rates, f(factor=0.5)),
        "LatentTracker.acted": (sdk.LatentTracker(p.model).acted, f(action=p.action)),
        "LatentTracker.see": (sdk.LatentTracker(p.model).see, f(observation=p.observation,
            task=None)),
        "LatentTracker.start": (sdk.LatentTracker(p.model).start, f(index=0)),
        "RSSMModel.encode": (o.rssm.encode, f(observation=p.observation, task=None)),
        "RSSMModel.loss": (o.rssm.loss, f(batch=p.batch)),
        "RSSMModel.observe": (o.rssm.observe, f(latent=o.belief, action=p.action,
            observation=p.observation, first=torch.zeros(B, 1, dtype=torch.bool), task=None)),
        "RSSMModel.step": (o.rssm.step, f(latent=o.belief, action=p.action, task=None)),
        "RSSMModel.terminated": (o.rssm.terminated, f(latent=o.belief, task=None)),
        "RSSMModel.termination_logits": (o.rssm.termination_logits, f(latent=o.belief,
            task=None)),
        "WorldModel.terminated": (p.tasked.terminated, f(latent=p.latent, task=p.task)),
        "WorldModel.termination_logits": (p.tasked.termination_logits, f(latent=p.latent,
            task=p.task)),
        "WorldModel.decode_reward": (p.model.decode_reward, f(logits=torch.randn(B, 11))),
        "WorldModel.reward_error": (p.model.reward_error, f(logits=torch.randn(B, 11),
            reward=o.value)),
        "WorldModel.set_observation_statistics": (p.tasked.set_observation_statistics, f(
            mean=torch.zeros(O), std=torch.ones(O), task=0)),
        "WorldModel.save": (p.model.save, f(path=p.folder / "model.safetensors")),
        "WorldModel.from_checkpoint": (sdk.WorldModel.from_checkpoint, f(
            path=p.folder / "model.safetensors", tasks=None)),
        "WorldModel.published": (sdk.WorldModel.published, f(observation_dim=O, action_dim=A)),
        "WorldModel.from_size": (sdk.WorldModel.from_size, f(size=1, tasks=sdk.MT30)),
        "EpisodeCutter.cut": (sdk.EpisodeCutter().cut, f(batch=transitions_of((5,)))),
        "ReplayBuffer.from_episodes": (sdk.ReplayBuffer.from_episodes, f(episodes=[episode()],
            slice_len=3, batch_size=2)),
        "ReplayBuffer.from_transitions": (functools.partial(sdk.ReplayBuffer.from_transitions,
            slice_len=2, batch_size=2), f(batch=transitions_of((5,)), task=0,
            bounds=(-1.0, 1.0))),
        "ReplayBuffer.from_arrays": (functools.partial(sdk.ReplayBuffer.from_arrays, slice_len=2,
            batch_size=2), f(observations=np.zeros((4, O)), actions=np.zeros((4, A)),
            rewards=np.zeros(4), terminals=np.zeros(4), timeouts=np.zeros(4),
            next_observations=np.zeros((4, O)), task=0, bounds=(-1.0, 1.0))),
        "ReplayBuffer.from_minari": (functools.partial(sdk.ReplayBuffer.from_minari, slice_len=2,
            batch_size=2), f(dataset=minari_like(), task=0)),
        "Task.from_env": (sdk.Task.from_env, f(factory=Point, name="point", suite="own")
            | {"episode_length": 5}),
        "FiniteWatch.note": (lambda name: FiniteWatch(["loss"], 2).note(name, torch.ones(())), f(
            name="loss")),
    }  # fmt: skip


def _runs() -> dict[str, Call]:
    p, f = parts(), dict
    o = _objects()
    return {
        "GrowingBatch.run_round": (o.loop.run_round, f(progress=0.5)),
        "GrowingBatch.save_data": (o.loop.save_data, f(path=p.folder / "rows")),
        "GrowingBatch.load_data": (o.loop.load_data, f(path=p.folder / "rows")),
        "AgentLoop.run_round": (o.agents.run_round, f(progress=0.5)),
        "AgentLoop.save_data": (o.agents.save_data, f(path=p.folder / "agent")),
        "AgentLoop.load_data": (o.agents.load_data, f(path=p.folder / "agent")),
        "OnlineConfig.tiny": (sdk.OnlineConfig.tiny, f(latent_dim=8)),
        "OnlineConfig.published": (sdk.OnlineConfig.published, f(latent_dim=8)),
        "Run.train": (o.run.train, f(rounds=1, steps=1, updates=1, minutes=0.1)),
        "Run.add_reading": (o.run.add_reading, f(summaries=[{"return": 1.0}])),
    }  # fmt: skip


@functools.cache
def methods() -> dict[str, Call]:
    """Public methods that take arguments."""
    p, f = parts(), dict
    o = _objects()
    found = {**_part_1(), **_runs(), **_part_2(), **_part_3(), **_part_4()}
    found |= {
        "RoundReport.row": (o.report.row, f(names=["point"])),
        "MassSpring.step": (p.simulator.step, o.moves),
        "MassSpring.encode": (p.simulator.encode, f(observation=p.state, task=None)),
        "MassSpring.features": (p.simulator.features, f(latent=p.state)),
        "MassSpring.reset": (p.simulator.reset, f(count=2, generator=torch.Generator())),
    }
    return found
