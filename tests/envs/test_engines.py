"""Imports of the simulators: clear when missing, and without side effects."""

import os
import subprocess
import sys

import pytest

from pwm_sdk.envs.engines import MissingSimulatorError
from pwm_sdk.envs.factory import make_gym

FRESH = """
import logging, os, sys
from pwm_sdk.envs.factory import make_gym
assert not {"dm_control", "metaworld", "mujoco", "torch"} & set(sys.modules)
make_gym("walker-walk").reset()
make_gym("reacher-three-easy").reset()
make_gym("mw-reach").reset()
assert "MUJOCO_GL" not in os.environ
assert not logging.root.handlers
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("dm_control", "cup-catch"),
        ("dm_control", "cup-spin"),
        ("dm_control", "reacher-three-easy"),
        ("metaworld", "reach"),
    ],
)
def test_missing_simulator(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingSimulatorError, match=r'pip install "pwm-sdk\[bench\]"') as caught:
        make_gym(name)
    assert module in str(caught.value)


def test_fresh_process_is_quiet_and_left_as_it_was() -> None:
    """No renderer, display, handler or torch is needed; every warning is an error."""
    environment = {key: value for key, value in os.environ.items() if key != "MUJOCO_GL"}
    command = [sys.executable, "-W", "error", "-c", FRESH]
    outcome = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "", "")


def test_chosen_renderer_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "egl")
    make_gym("pendulum-swingup")
    assert os.environ["MUJOCO_GL"] == "egl"
