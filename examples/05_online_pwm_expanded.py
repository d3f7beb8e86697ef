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
    ReturnScale,
    RoundConfig,
    WorldModel,
    init_fan_in,
    make_gym,
)

torch.manual_seed(0)
model = WorldModel(
    3,
    1,
    latent_dim=128,
    hidden=(256, 256),
    num_bins=0,
    activation="silu",
    standardize=True,
    episodic=True,
)
init_fan_in(model)
optimizer = torch.optim.Adam(model.parameter_groups(0.001, 0.0003), fused=True)
actor = FirstOrderActor(
    128,
    1,
    (128, 128),
    std=0.6,
    learn_std=False,
    noise="after",
    output_gain=0.1,
    activation="silu",
    norm="before",
)
critic = Critic(
    128,
    (128, 128),
    2,
    reduce="mean",
    scale=9.999999999999991,
    output_gain=0.01,
    activation="silu",
    norm="before",
)
scale = ReturnScale()
pwm = PWM(
    model,
    actor,
    critic,
    PWMConfig(
        horizon=12,
        actor_lam=0.95,
        critic_lr=0.001,
        betas=(0.9, 0.999),
        actor_max_norm=10.0,
        critic_max_norm=10.0,
        critic_epochs=1,
        critic_splits=2,
        critic_limit=1,
        saturation=0.1,
        target_tau=0.01,
        average_tau=0.005,
    ),
    return_scale=scale,
)
replay = ReplayBuffer(1_000_000, 5, 48, recent=0.25, seed=3_757_552_657)
pool = EnvPool([make_gym("Pendulum-v1", seed=0)])
test_pool = EnvPool([make_gym("Pendulum-v1", seed=1_000_000)])
loop = GrowingBatch(
    pool,
    model,
    optimizer,
    [Learner(pwm, [0], 32)],
    replay,
    RoundConfig(decay_share=0.3, decay_floor=0.02),
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
