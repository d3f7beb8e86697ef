"""PWM from its components: random data, a world model, a policy learned by gradients through it."""

import torch

from pwm_sdk import (
    PWM,
    Critic,
    EnvPool,
    FirstOrderActor,
    RandomBehaviour,
    ReplayBuffer,
    WorldModel,
    evaluate,
    fit,
    make_env,
    make_episode,
    make_gym,
    model_optimizer,
    optimize,
    run_episodes,
    world_model_loss,
)

torch.manual_seed(0)
env = make_gym("cartpole-swingup", seed=0)
task = env.task
behaviour = RandomBehaviour(1, task.action_dim, seed=0, hold=19)
replay = ReplayBuffer(capacity=50_000, slice_len=5, batch_size=64, seed=1)
for episode in run_episodes(EnvPool([env]), behaviour, quota=[10], lengths=[250])[0]:
    reward = episode.reward / task.reward_scale
    replay.add(make_episode(episode.observation, episode.action, reward, task))

model = WorldModel(task.observation_dim, task.action_dim, latent_dim=64, hidden=(128, 128))
found = replay.statistics(task)
model.set_observation_statistics(found["observation_mean"], found["observation_std"] + 2e-3)
optimizer = model_optimizer(model)
for _ in range(300):
    loss = world_model_loss(model, replay.sample(), rho=0.7, reward=1.0)
    optimize(loss, optimizer, max_norm=10.0)
print(f"world-model loss {float(loss):.4f}")

actor = FirstOrderActor(model.latent_dim, task.action_dim, hidden=(64, 64))
critic = Critic(model.latent_dim, hidden=(64, 64))
pwm = PWM(model, actor, critic)
metrics = fit(pwm, replay, 60)
print({name: round(value, 3) for name, value in metrics.items()})
print(evaluate(make_env(task, seed=1), pwm.policy(), episodes=2))
