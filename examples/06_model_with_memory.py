"""A model with a memory of your own: a GRU, for a pendulum that does not show its speed."""

import gymnasium
import torch
from torch import nn

import pwm_sdk as sdk


class GRUModel(nn.Module):
    """Its latent is a GRU's state after all that was seen; imagination sees what it guesses."""

    def __init__(self, observation_dim, action_dim, size=32):
        super().__init__()
        self.latent_dim, self.action_dim = size, action_dim
        self.cell = nn.GRUCell(observation_dim + action_dim, size)
        layers = nn.Linear(size + action_dim, 128), nn.SiLU(), nn.Linear(128, observation_dim + 1)
        self.guess = nn.Sequential(*layers)  # the next observation and the reward

    def encode(self, observation, task=None):
        """See a first observation."""
        latent = observation.new_zeros(*observation.shape[:-1], self.latent_dim)
        return self._see(latent, latent[..., : self.action_dim], observation)

    def observe(self, latent, action, observation, first, task=None):
        """See a later one."""
        return self._see(latent.masked_fill(first, 0), action.masked_fill(first, 0), observation)

    def step(self, latent, action, task=None):
        """Imagine on."""
        seen, reward = self.guess(torch.cat([latent, action], -1)).tensor_split([-1], -1)
        return self._see(latent, action, seen), reward

    def _see(self, latent, action, observation):
        inputs = torch.cat([observation, action], -1).flatten(0, -2)
        return self.cell(inputs, latent.flatten(0, -2)).view(latent.shape)

    def loss(self, batch):
        """Compare guesses with what came."""
        seen, action = batch["observation"], batch["action"]
        truth = torch.cat([seen[:, 1:], batch["reward"]], -1)
        latent = sdk.observed_latents(self, seen, action)[:, :-1]
        return (self.guess(torch.cat([latent, action], -1)) - truth).square().mean(), {}


torch.manual_seed(0)
env = gymnasium.wrappers.TransformObservation(
    gymnasium.make("Pendulum-v1"), lambda seen: seen[:2], gymnasium.spaces.Box(-1.0, 1.0, (2,))
)
model = GRUModel(2, 1)
sdk.check_latent_model(model, torch.randn(4, 2))
actor, critic = sdk.FirstOrderActor(32, 1, (64, 64)), sdk.Critic(32, (64, 64))
pwm = sdk.PWM(model, actor, critic, sdk.PWMConfig(horizon=10, gamma=0.95))
adam, replay = torch.optim.Adam(model.parameters(), lr=1e-3), sdk.ReplayBuffer(20_000, 9, 64)
learner, config = sdk.Learner(pwm, tasks=[0], starts=32), sdk.RoundConfig(20, first_updates=20)
pool, sizes = sdk.EnvPool([env]), {"reward_scale": [5.0], "lengths": [200], "episodes": [1]}
loop = sdk.GrowingBatch(pool, model, adam, [learner], replay, config, **sizes)
loop.collect_seed([5])
print(loop.run_round(progress=0.0).metrics)  # one round, to see that it runs
print(sdk.evaluate(env, loop.policy(), episodes=2))
