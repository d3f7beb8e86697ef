"""A transformer of your own as a world model: its latent is a window of the last rows."""

import torch
from torch import nn

import pwm_sdk as sdk


class TransformerModel(nn.Module):
    """Guess the next row from the last ones; a row is an observation and the action before it."""

    def __init__(self, observation_dim, action_dim, rows=8, width=32):
        super().__init__()
        self.rows, self.sizes = rows, (observation_dim, action_dim)
        self.latent_dim, self.action_dim = rows * sum(self.sizes), action_dim
        self.take = nn.Linear(sum(self.sizes) + action_dim, width)
        self.place = nn.Parameter(0.1 * torch.randn(rows, width))
        self.body = nn.TransformerEncoderLayer(width, 2, 64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, observation_dim + 1)

    def encode(self, observation, task=None):
        """See a first observation."""
        empty = observation.new_zeros(*observation.shape[:-1], self.latent_dim)
        return self._push(empty, empty[..., : self.action_dim], observation)

    def observe(self, latent, action, observation, first, task=None):
        """See a later one."""
        return self._push(latent.masked_fill(first, 0), action.masked_fill(first, 0), observation)

    def step(self, latent, action, task=None):
        """Imagine on."""
        rows = latent.unflatten(-1, (self.rows, -1))
        rows = torch.cat([rows, action.unsqueeze(-2).expand(*rows.shape[:-1], -1)], -1)
        seen = self.body((self.take(rows) + self.place).flatten(0, -3))[:, -1]
        change, reward = self.head(seen).view(*latent.shape[:-1], -1).tensor_split([-1], -1)
        return self._push(latent, action, change + rows[..., -1, : self.sizes[0]]), reward

    def loss(self, batch):
        """Compare what is imagined in one step with what came."""
        seen, action = batch["observation"], batch["action"]
        latent = sdk.observed_latents(self, seen, action)
        guess, reward = self.step(latent[:, :-1], action)
        errors = (guess - latent[:, 1:]).square().mean(), (reward - batch["reward"]).square().mean()
        return sum(errors), {"reward": errors[1].detach()}

    def _push(self, latent, action, observation):
        return torch.cat([latent[..., sum(self.sizes) :], observation, action], -1)


torch.manual_seed(0)
model = TransformerModel(5, 1)
sdk.check_latent_model(model, torch.randn(4, 5))
actor, critic = sdk.FirstOrderActor(model.latent_dim, 1, (64, 64)), sdk.Critic(model.latent_dim)
learner = sdk.Learner(sdk.PWM(model, actor, critic, sdk.PWMConfig(horizon=5)), [0], 16)
pool, config = sdk.EnvPool([sdk.make_gym("cartpole-swingup")]), sdk.RoundConfig(10, 20)
adam, replay = torch.optim.Adam(model.parameters(), lr=1e-3), sdk.ReplayBuffer(20_000, 9, 32)
sizes = {"reward_scale": [1.0], "lengths": [100], "episodes": [1]}
loop = sdk.GrowingBatch(pool, model, adam, [learner], replay, config, **sizes)
loop.collect_seed([5])
print(loop.run_round(progress=0.0).metrics)
