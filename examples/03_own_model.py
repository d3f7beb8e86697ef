"""A latent model of your own: a first-order actor learns to stop a sliding block."""

import torch

from pwm_sdk import (
    Critic,
    FirstOrderActor,
    LatentRollout,
    actor_loss,
    check_latent_model,
    critic_loss,
    frozen,
    lambda_targets,
    minibatches,
    optimize,
)


class Block:
    """Position and speed on a line; the reward falls with the distance from the origin."""

    latent_dim, action_dim = 2, 1

    def encode(self, observation, task=None):
        """See everything."""
        return observation

    def step(self, latent, action, task=None):
        """Push."""
        position, speed = latent.split(1, dim=-1)
        following = torch.cat([position + 0.1 * speed, 0.9 * speed + 0.3 * action], dim=-1)
        return following, -position.square() - 0.05 * action.square()


torch.manual_seed(0)
model = Block()
check_latent_model(model, torch.randn(4, 2))
actor = FirstOrderActor(2, 1, hidden=(32, 32))
critic = Critic(2, hidden=(32, 32))
rollout = LatentRollout(model, actor, horizon=16)
actor_opt = torch.optim.Adam(actor.parameters(), lr=3e-3)
critic_opt = torch.optim.Adam(critic.parameters(), lr=3e-3)
for step in range(201):
    trajectory = rollout(torch.randn(64, 2))
    with frozen(critic):
        optimize(actor_loss(trajectory, critic, gamma=0.95), actor_opt, max_norm=1.0)
    targets = lambda_targets(trajectory, critic, gamma=0.95)
    for latents, target in minibatches(trajectory["latent"], targets, splits=2):
        optimize(critic_loss(critic, latents, target), critic_opt, max_norm=10.0)
    if step % 50 == 0:
        print(step, f"mean reward {trajectory['next', 'reward'].mean().item():.3f}")
