"""No two uses of one run's seed start one and the same stream of random numbers."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from quick.recipe import PRESETS, build


def test_weights_data_and_noise_of_a_run_come_from_different_streams() -> None:
    loop = build(PRESETS["smoke"], 0)
    try:
        states = [torch.Generator().manual_seed(0).get_state(), loop.replay.generator.get_state()]
        states += [learner.pwm.generator.get_state() for learner in loop.learners]
    finally:
        loop.pool.close()
    assert len({bytes(state.numpy()) for state in states}) == len(states)
