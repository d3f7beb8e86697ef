"""The planner against the published one: the same draws give the same candidates and action."""

from __future__ import annotations

import pytest
from published_weights import Ensemble, Prior, prefixed, world_model
from torch import Tensor
from vectors import load

from pwm_sdk.planner import MPPI, PolicyValue


class Recorded:
    """Recorded draws in place of random ones, in the order in which they are asked for."""

    generator = None

    def __init__(self, draws: list[Tensor]) -> None:
        self.draws = draws

    def normal(self, shape, like: Tensor) -> Tensor:
        draw = self.draws.pop(0)
        assert draw.shape == tuple(shape)
        return draw

    exponential = normal


def planner(data: dict[str, Tensor]) -> MPPI:
    """The recorded planner: time-major noise becomes `[1, samples, H, A]`."""
    explore = not bool(data["cfg/eval_mode"])
    candidates = [noise.transpose(0, 1).unsqueeze(0) for noise in data["in/sample_noise"]]
    ends = [noise.unsqueeze(0) for noise in data["in/terminal_pi_eps"]]
    draws = [noise.unsqueeze(0) for noise in data["in/pi_traj_eps"]]
    draws += [draw for pair in zip(candidates, ends, strict=True) for draw in pair]
    draws.append(data["in/gumbel_exponential"].unsqueeze(0))
    draws += [data["in/action_noise"].unsqueeze(0)] if explore else []
    prior = Prior(data)
    end = PolicyValue(Ensemble(data, data["in/qidx"].tolist()), prior)
    mppi = MPPI(
        world_model(prefixed(data, "w/"), data, masked=True),
        prior,
        end,
        horizon=int(data["cfg/horizon"]),
        samples=int(data["cfg/num_samples"]),
        elites=int(data["cfg/num_elites"]),
        policy_samples=int(data["cfg/num_pi_trajs"]),
        iterations=int(data["cfg/iterations"]),
        temperature=float(data["cfg/temperature"]),
        std=(float(data["cfg/min_std"]), float(data["cfg/max_std"])),
        gamma=data["out/discount"].tolist(),
    )
    mppi._draws = Recorded(draws)
    if not bool(data["cfg/t0"]):
        mppi.mean = data["in/prev_mean"].unsqueeze(0)
    return mppi


@pytest.mark.parametrize("name", ["g5_mppi_iter1_eval.npz", "g5_mppi_iter3_train.npz"])
def test_published_plan(close, monkeypatch, name: str) -> None:
    data = load(name)
    mppi, seen = planner(data), []
    evaluate = mppi._evaluate

    def recorded(latent, actions, *rest) -> Tensor:
        seen.append((actions, evaluate(latent, actions, *rest)))
        return seen[-1][1]

    monkeypatch.setattr(mppi, "_evaluate", recorded)
    choice = "elite" if bool(data["cfg/eval_mode"]) else "explore"
    action = mppi.plan(data["in/obs"], data["in/task"], choice=choice)
    assert len(seen) == int(data["cfg/iterations"])
    for (actions, values), theirs, value in zip(
        seen, data["out/actions"], data["out/values"], strict=True
    ):
        close(actions[0].transpose(0, 1), theirs)
        close(values[0], value)
    close(mppi.mean[0], data["out/final_mean"])
    close(action[0], data["out/action"])
    assert mppi._draws.draws == []
