"""One task from nothing: small rounds of {improve in the model, collect with the new policy}."""

import torch

from pwm_sdk import (
    MT80,
    PWM,
    Critic,
    EnvPool,
    FirstOrderActor,
    GrowingBatch,
    Learner,
    PWMConfig,
    ReplayBuffer,
    RoundConfig,
    WorldModel,
    evaluate,
    make_env,
    make_gym,
    model_optimizer,
)

ROUNDS = 4  # about 25 swing the pole up

torch.manual_seed(0)
task = MT80["cartpole-swingup"]
sizes = {"latent_dim": 64, "hidden": (128, 128), "encoder_hidden": (128,)}
model = WorldModel(5, 1, num_tasks=len(MT80), **sizes)
actor = FirstOrderActor(64, 1, (64, 64), population=1)
critic = Critic(64, (64, 64), population=1)
pwm = PWM(model, actor, critic, PWMConfig(actor_lr=5e-4, critic_lr=1e-3))
loop = GrowingBatch(
    EnvPool([make_gym(task, seed=0)]),
    model,
    model_optimizer(model),
    [Learner(pwm, tasks=[task.index], starts=32)],
    ReplayBuffer(100_000, slice_len=5, batch_size=64, seed=1),
    RoundConfig(updates=40, first_updates=80),
    reward_scale=[task.reward_scale],
    lengths=[250],
    episodes=[2],
)
loop.collect_seed([5])
for i in range(ROUNDS):
    report = loop.run_round(progress=i / ROUNDS)
    print(f"round {i}: training return {report.train_return[0]:.1f}", end=", ")
    print(f"gap {report.alarms['gap'][0]:+.2f}")
print(evaluate(make_env(task, seed=1), pwm.policy(), episodes=1))
