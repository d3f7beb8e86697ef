"""The published PWM update, written down from its specification: the baseline of the throughput.

It is as costly as the published program, step for step: the world model is not frozen and encodes
inside the graph, trajectories go to buffers that are written in place, the critic enters the graph
at every step, its ensemble is a `vmap`, Adam is torch's default (tensor by tensor on a CPU), and
every step is checked on the host. Where the specification is silent the cheaper form is taken. The
modules have the published names, so that a file of `save` opens as a file of PWM.

Source: PWM (arXiv 2407.02466), its program, multi-task path; docs/differences.md.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GAMMA, LAM, EPS = 0.99, 0.95, 1e-5
RATE, BETAS = 5e-4, (0.7, 0.95)
MIN_LOG_STD = -1.427
LIMIT = 1e6  # of values; beyond it the program stops


class Block(nn.Linear):
    """Linear, LayerNorm, then Mish, or SimNorm over groups of 8."""

    def __init__(self, in_dim: int, out_dim: int, simnorm: bool = False) -> None:
        super().__init__(in_dim, out_dim)
        self.ln = nn.LayerNorm(out_dim)
        self.simnorm = simnorm

    def forward(self, input: Tensor) -> Tensor:
        """Map `[.., in]` to `[.., out]`."""
        x = self.ln(super().forward(input))
        return x.unflatten(-1, (-1, 8)).softmax(-1).flatten(-2) if self.simnorm else F.mish(x)


def blocks(widths: Sequence[int], bins: int | None = None) -> nn.Sequential:
    """Blocks through `widths`, the last with SimNorm; or all with Mish, then a Linear to bins."""
    last = len(widths) - 2
    layers: list[nn.Module] = [
        Block(a, b, simnorm=bins is None and i == last) for i, (a, b) in enumerate(pairwise(widths))
    ]
    return nn.Sequential(*layers, *([] if bins is None else [nn.Linear(widths[-1], bins)]))


class PublishedWorldModel(nn.Module):
    """Encoder, dynamics and reward logits of a task, which is looked up at every call."""

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        *,
        latent_dim: int,
        hidden: Sequence[int],
        encoder_hidden: Sequence[int],
        num_tasks: int = 80,
        task_dim: int = 96,
    ) -> None:
        super().__init__()
        self.latent_dim, self.action_dim = latent_dim, action_dim
        joint = latent_dim + task_dim + action_dim
        self._task_emb = nn.Embedding(num_tasks, task_dim, max_norm=1.0)
        self._encoder = blocks([observation_dim + task_dim, *encoder_hidden, latent_dim])
        self._dynamics = blocks([joint, *hidden, latent_dim])
        self._reward = blocks([joint, *hidden], bins=101)
        self.register_buffer("bins", torch.linspace(-10.0, 10.0, 101), persistent=False)

    def encode(self, observation: Tensor, task: int) -> Tensor:
        """Map observations `[B, O]` to latents `[B, D]`."""
        return self._encoder(self._with_task(observation, task))

    def next(self, latent: Tensor, action: Tensor, task: int) -> Tensor:
        """Predict the next latents `[B, D]`."""
        return self._dynamics(torch.cat((self._with_task(latent, task), action), -1))

    def reward(self, latent: Tensor, action: Tensor, task: int) -> Tensor:
        """Predict rewards `[B]` in symlog units."""
        logits = self._reward(torch.cat((self._with_task(latent, task), action), -1))
        return (logits.softmax(-1) * self.bins).sum(-1)

    def _with_task(self, x: Tensor, task: int) -> Tensor:
        embedding = self._task_emb(torch.tensor(task, device=x.device))
        return torch.cat((x, embedding.expand(len(x), -1)), -1)


class PublishedActor(nn.Module):
    """A squashed Gaussian policy with one learned deviation per action."""

    def __init__(
        self, latent_dim: int, action_dim: int, hidden: Sequence[int] = (400, 200, 100)
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in pairwise([latent_dim, *hidden]):
            layers += [nn.Linear(a, b), nn.Mish(), nn.LayerNorm(b)]
        widths = [latent_dim, *hidden]
        self.mu_net = nn.Sequential(*layers, nn.Linear(widths[-1], action_dim))
        self.logstd = nn.Parameter(torch.full((action_dim,), -1.0))

    def forward(self, latent: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return actions `[B, A]`, the mean ones without standard-normal `noise`."""
        with torch.no_grad():
            self.logstd.clamp_min_(MIN_LOG_STD)
        mean = self.mu_net(latent)
        return torch.tanh(mean if noise is None else mean + self.logstd.exp() * noise)


class PublishedCritic(nn.Module):
    """Three value functions with stacked weights, called through `vmap`."""

    def __init__(
        self, latent_dim: int, hidden: Sequence[int] = (400, 200), ensemble: int = 3
    ) -> None:
        super().__init__()
        stacked: list[Tensor] = []
        for a, b in pairwise([latent_dim, *hidden]):
            weight = torch.stack([nn.init.orthogonal_(torch.empty(b, a)) for _ in range(ensemble)])
            ones, zeros = torch.ones(ensemble, b), torch.zeros(ensemble, b)
            stacked += [2**0.5 * weight, zeros, ones, zeros.clone()]
        head = torch.randn(ensemble, 1, [latent_dim, *hidden][-1])
        stacked += [2**0.5 * F.normalize(head, dim=-1), torch.zeros(ensemble, 1)]
        self.params = nn.ParameterList(stacked)

    def forward(self, latent: Tensor) -> Tensor:
        """Return the values `[3, B]` of latents `[B, D]`."""
        return torch.vmap(_value, in_dims=(0, None))(list(self.params), latent)


def _value(params: Sequence[Tensor], x: Tensor) -> Tensor:
    """One value function."""
    for i in range(0, len(params) - 2, 4):
        weight, bias, scale, shift = params[i : i + 4]
        x = F.layer_norm(F.mish(F.linear(x, weight, bias)), bias.shape, scale, shift)
    return F.linear(x, *params[-2:]).squeeze(-1)


class PublishedUpdate:
    """Actor and critic of one task, improved by the published program's update.

    Args:
        model: the world model; its gradients are computed, and not used.
        actor: the policy.
        critic: the values.
        horizon: H.
    """

    def __init__(
        self,
        model: PublishedWorldModel,
        actor: PublishedActor,
        critic: PublishedCritic,
        horizon: int = 16,
    ) -> None:
        self.model, self.actor, self.critic, self.horizon = model, actor, critic, horizon
        self.actor_optimizer = torch.optim.Adam(actor.parameters(), lr=RATE, betas=BETAS)
        self.critic_optimizer = torch.optim.Adam(critic.parameters(), lr=RATE, betas=BETAS)
        self.mean, self.var, self.count = 0.0, 1.0, 1e-4  # of negative returns

    def update(self, observation: Tensor, task: int, noise: Tensor) -> dict[str, Tensor]:
        """Improve once from observations `[B, O]` with standard-normal noise `[H, B, A]`.

        Returns:
            actor_loss, return (mean of the imagined ones) and value_loss (of the last minibatch).
        """
        batch, horizon = len(observation), self.horizon
        self.latents = observation.new_zeros(horizon, batch, self.model.latent_dim)
        self.rewards = observation.new_zeros(horizon, batch)
        self.values = observation.new_zeros(horizon + 1, batch)
        returns = self._imagine(observation, task, noise)
        loss = (-returns / self._deviation(-returns.detach())).mean()
        self.actor_optimizer.zero_grad()
        self.model.zero_grad()
        self.critic.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.actor.parameters(), 1.0)
        self.actor_optimizer.step()
        value_loss = self._fit_critic(self._targets())
        return {"actor_loss": loss.detach(), "return": returns.detach().mean(), **value_loss}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights as a file of PWM."""
        parts = {"world_model": self.model, "actor": self.actor, "critic": self.critic}
        torch.save({name: part.state_dict() for name, part in parts.items()}, path)

    def _imagine(self, observation: Tensor, task: int, noise: Tensor) -> Tensor:
        """Fill the buffers and return the discounted returns `[B]`, in the graph."""
        latent = self.model.encode(observation, task)
        total = torch.zeros_like(self.values)
        discount = 1.0
        for t in range(self.horizon):
            action = self.actor(latent.detach(), noise[t])
            reward = self.model.reward(latent, action, task)
            with torch.no_grad():
                self.latents[t] = latent
                self.rewards[t] = reward
            latent = self.model.next(latent, action, task)
            self.values[t + 1] = self.critic(latent).min(0).values
            total[t + 1] = total[t] + discount * reward
            discount *= GAMMA
            following = self.values[t + 1]
            if not following.isfinite().all() or (following.abs() > LIMIT).any():
                raise ValueError(f"values must be finite and at most {LIMIT}, got {following}")
        return total[-1] + discount * GAMMA * self.values[-1]

    def _deviation(self, losses: Tensor) -> Tensor:
        """Take in negative returns `[B]`, return the standard deviation of all so far."""
        rows, delta = len(losses), losses.mean() - self.mean
        count = self.count + rows
        squares = self.var * self.count + losses.var(correction=0) * rows
        self.var = (squares + delta**2 * self.count * rows / count) / count
        self.mean, self.count = self.mean + delta * rows / count, count
        return (self.var + EPS).sqrt()

    @torch.no_grad()
    def _targets(self) -> Tensor:
        """TD(lambda) targets `[H, B]`, which the program's episode ends make one-step ones."""
        targets = torch.zeros_like(self.rewards)
        ends = torch.ones_like(self.rewards)  # as in the program, where no environment runs along
        weight = torch.ones_like(self.rewards[0])
        later = torch.zeros_like(weight)
        cut = torch.zeros_like(weight)
        for t in reversed(range(self.horizon)):
            reward, value, end = self.rewards[t], self.values[t + 1], ends[t]
            weight = weight * LAM * (1.0 - end) + end
            missing = (1.0 - weight) / (1.0 - LAM) * reward
            later = (1.0 - end) * (LAM * GAMMA * later + GAMMA * value + missing)
            cut = GAMMA * (value * end + cut * (1.0 - end)) + reward
            targets[t] = (1.0 - LAM) * later + weight * cut
        return targets

    def _fit_critic(self, targets: Tensor) -> dict[str, Tensor]:
        """Eight passes over four blocks of time steps."""
        latents, targets = self.latents.flatten(0, 1), targets.flatten()
        kept = ~latents.isnan().any(-1)
        latents, targets = latents[kept], targets[kept]
        size = self.horizon * self.latents.shape[1] // 4
        loss = torch.zeros(())
        for _ in range(8):
            for states, wanted in zip(latents.split(size), targets.split(size), strict=True):
                self.critic_optimizer.zero_grad()
                loss = (self.critic(states) - wanted).square().mean()
                loss.backward()
                nn.utils.clip_grad_norm_(self.critic.parameters(), 100.0)
                self.critic_optimizer.step()
        return {"value_loss": loss.detach()}
