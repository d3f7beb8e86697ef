"""A latent that remembers: along windows, in environments, and what the checker says of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pwm_sdk.contract.checks import check_latent_model
from pwm_sdk.contract.memory import LatentTracker, has_memory, observed_latents
from pwm_sdk.contract.models import MemoryModel


class Sum:
    """z = half of z before, plus the action twice, plus what is observed: worked out by hand."""

    latent_dim, action_dim = 1, 1

    def encode(self, observation: Tensor, task: Any = None) -> Tensor:
        return observation

    def observe(
        self, latent: Tensor, action: Tensor, observation: Tensor, first: Tensor, task: Any = None
    ) -> Tensor:
        return observation + (0.5 * latent + 2 * action).masked_fill(first, 0.0)

    def step(self, latent: Tensor, action: Tensor, task: Any = None) -> tuple[Tensor, Tensor]:
        return 0.5 * latent + 2 * action, latent


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).unsqueeze(-1)


def test_each_latent_of_a_window_has_seen_the_rows_before_it() -> None:
    seen, action = column(1, 10, 100)[None], column(1, 2)[None]
    found = observed_latents(Sum(), seen, action)
    assert found.flatten().tolist() == [1, 10 + 0.5 + 2, 100 + 6.25 + 4]
    begins = torch.tensor([True, False, True])[None, :, None]
    assert observed_latents(Sum(), seen, action, first=begins).flatten().tolist() == [1, 12.5, 100]


def test_without_memory_each_row_is_encoded() -> None:
    class Plain:
        def encode(self, observation: Tensor, task: Any = None) -> Tensor:
            return observation + task.unsqueeze(-1)

    seen, task = column(1, 2, 3)[None], torch.tensor([10])
    found = observed_latents(Plain(), seen, seen[:, 1:], task)
    assert found.flatten().tolist() == [11, 12, 13]
    assert not has_memory(Plain())
    assert isinstance(Sum(), MemoryModel)


def test_the_tracker_forgets_where_an_episode_begins() -> None:
    tracker = LatentTracker(Sum())
    assert tracker.see(column(1, 5)).flatten().tolist() == [1, 5]
    tracker.acted(column(1, 1))
    tracker.start(1)
    assert tracker.see(column(10, 50)).flatten().tolist() == [12.5, 50]
    tracker.acted(column(0, 1))
    assert tracker.see(column(0, 0)).flatten().tolist() == [6.25, 27]
    tracker.acted(column(0, 0))
    tracker.start()
    assert tracker.see(column(3, 4)).flatten().tolist() == [3, 4]


def test_steps_one_by_one_are_those_of_a_window() -> None:
    seen, action = torch.randn(3, 5, 1), torch.randn(3, 4, 1)
    tracker, found = LatentTracker(Sum()), []
    for t in range(5):
        found.append(tracker.see(seen[:, t]))
        tracker.acted(action[:, min(t, 3)])
    assert torch.equal(torch.stack(found, 1), observed_latents(Sum(), seen, action))


BROKEN = {
    "observe must be encode where first is True": lambda self, z, a, o, first, task=None: o + z,
    "observe must treat rows independently": lambda self, z, a, o, first, task=None: torch.where(
        first, o, o + z - 0.1 * z.sum()
    ),
    "observed latent must depend differentiably on latent": (
        lambda self, z, a, o, first, task=None: (
            torch.where(first, o, o + z.detach() + 0 * a) + 0 * a.clone().requires_grad_()
        )
    ),
    "observe must take latent, action, observation, first, task by position": (
        lambda self, z, a, o, first: o
    ),
    r"observe\(latent, action, observation, first\) must have shape \[4, 1\], got \[4\]": (
        lambda self, z, a, o, first, task=None: o[:, 0]
    ),
}


def test_the_checker_accepts_a_memory() -> None:
    check_latent_model(Sum(), torch.arange(4.0).unsqueeze(-1))


@pytest.mark.parametrize("message", BROKEN)
def test_the_checker_names_what_is_broken(message: str) -> None:
    model = type("Broken", (Sum,), {"observe": BROKEN[message]})()
    with pytest.raises(ValueError, match=message):
        check_latent_model(model, torch.arange(4.0).unsqueeze(-1))
