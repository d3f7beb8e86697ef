"""TorchRL's collector fills the replay, and acts with the policy that learns from it."""

import torch
from torchrl.collectors import Collector

from pwm_sdk import (
    PWM,
    Critic,
    EpisodeCutter,
    FirstOrderActor,
    PWMConfig,
    ReplayBuffer,
    WorldModel,
    make_env,
    model_optimizer,
    optimize,
    world_model_loss,
)

ROUNDS = 3  # some twenty swing the pole up

torch.manual_seed(0)
env = make_env("cartpole-swingup", seed=0)  # or any other environment of TorchRL
model = WorldModel(5, 1, latent_dim=64, hidden=(128, 128), encoder_hidden=(128,))
optimizer = model_optimizer(model)
actor, critic = FirstOrderActor(64, 1, (64, 64), std=0.3), Critic(64, (64, 64))
pwm = PWM(model, actor, critic, PWMConfig(horizon=8))
replay = ReplayBuffer(100_000, slice_len=5, batch_size=64, seed=0)
cutter = EpisodeCutter(task=0)
explorer = pwm.explorer().tensordict_module()  # follows the actor as it learns
collector = Collector(
    env,
    explorer,
    frames_per_batch=500,
    total_frames=500 * ROUNDS,
    auto_register_policy_transforms=True,
)
for i, batch in enumerate(collector):
    replay.extend(cutter.cut(batch))
    found = replay.statistics(0)
    model.set_observation_statistics(found["observation_mean"], found["observation_std"] + 2e-3)
    for _ in range(40):
        windows = replay.sample()
        loss = world_model_loss(model, windows, rho=0.7)
        optimize(loss, optimizer, max_norm=10.0)
        pwm.update(windows)
    paid = float(batch["next", "reward"].sum())
    print(f"round {i}: {paid:.0f} reward in {batch.numel()} steps, model loss {loss.item():.3f}")
collector.shutdown()
policy = pwm.policy().tensordict_module()
rollout = make_env("cartpole-swingup", seed=1).rollout(500, policy)
print(f"policy: {float(rollout['next', 'reward'].sum()):.0f}")
