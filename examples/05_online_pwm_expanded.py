"""What `online_pwm("Pendulum-v1")` stands for; `print(online_pwm(task).code)` shows any other."""

import torch

from pwm_sdk import (
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
    make_gym,
    model_optimizer,
)

torch.manual_seed(0)
model = WorldModel(3, 1, episodic=True)
optimizer = model_optimizer(model)
actor = FirstOrderActor(128, 1)
critic = Critic(128)
pwm = PWM(model, actor, critic, PWMConfig(actor_lr=0.0005, critic_lr=0.001))
replay = ReplayBuffer(1_000_000, 5, 48, recent=0.25, seed=3_757_552_657)
pool = EnvPool([make_gym("Pendulum-v1", seed=0)])
test_pool = EnvPool([make_gym("Pendulum-v1", seed=1_000_000)])
loop = GrowingBatch(
    pool,
    model,
    optimizer,
    [Learner(pwm, [0], 32)],
    replay,
    RoundConfig(),
    reward_scale=[None],
    lengths=[250],
    episodes=[2],
    seed_episodes=[10],
    names=["Pendulum-v1"],
    test_pool=test_pool,
)
loop.begin()
for i in range(1):  # six of them swing the pendulum up
    report = loop.run_round(progress=i / 10)
    print(f"round {i}: training return {report.train_return[0]:.0f}, {loop.steps} steps")
