"""Imports of the simulators: clear when missing, and without side effects."""

import copy
import os
import pickle
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from pwm_sdk.envs.engines import MissingSimulatorError
from pwm_sdk.envs.factory import make_gym
from pwm_sdk.simulators import imports
from pwm_sdk.simulators.imports import load

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
    ("module", "name", "project"),
    [
        ("dm_control", "cup-catch", "pwm-sdk"),
        ("dm_control", "cup-spin", "pwm-sdk"),
        ("dm_control", "reacher-three-easy", "pwm-sdk"),
        ("metaworld", "reach", "pwm-sdk[metaworld]"),
    ],
)
@pytest.mark.parametrize("python", [(3, 11), (3, 12), (3, 13), (3, 14)])
def test_missing_simulator(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str, project: str, python: tuple[int, int]
) -> None:
    """It is named, with what brings it, or with the Pythons that have it."""
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(imports, "_PYTHON", python)
    needed = {"dm_control": "labmaze", "metaworld": "mujoco 3.3.0"}[module]
    told = f'{module} must be installed: pip install "{project}"'
    if python > (3, 12):
        told = f"{module} must be installed, got Python 3.{python[1]}: {needed}, which it needs, "
        told += "has wheels for Python 3.11 and 3.12 only"
    with pytest.raises(MissingSimulatorError, match=f"^{re.escape(told)}$"):
        make_gym(name)


def test_fresh_process_is_quiet_and_left_as_it_was() -> None:
    """No renderer, display, handler or torch is needed; every warning is an error."""
    environment = {key: value for key, value in os.environ.items() if key != "MUJOCO_GL"}
    own = "ignore:Setting the shape on a NumPy array:DeprecationWarning"  # dm_control, numpy 2.5
    command = [sys.executable, "-W", "error", "-W", own, "-c", FRESH]
    outcome = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert outcome.returncode == 0, outcome.stderr
    assert (outcome.stdout, outcome.stderr) == ("", "")


def test_chosen_renderer_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "egl")
    make_gym("pendulum-swingup")
    assert os.environ["MUJOCO_GL"] == "egl"


PLAY = """
import os
before = dict(os.environ)
from pwm_sdk.envs.factory import make_gym
for name in ("walker-walk", "cup-spin", "mw-reach"):
    make_gym(name, seed=0).reset()
assert dict(os.environ) == before
"""
BROKEN = [
    {"__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent", "MUJOCO_GL": "egl"},
    {"PYOPENGL_PLATFORM": "glx", "MUJOCO_GL": "egl"},
    {"MUJOCO_GL": "nonsense"},
]


@pytest.mark.parametrize("variables", BROKEN, ids=str)
def test_a_backend_that_does_not_load_is_named_and_done_without(variables: dict[str, str]) -> None:
    command = [sys.executable, "-c", PLAY]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables})
    assert done.returncode == 0, done.stderr
    assert (
        f"MUJOCO_GL must name a backend of OpenGL that loads, got '{variables['MUJOCO_GL']}'"
        in (done.stderr)
    )
    assert "must be installed" not in done.stderr


def test_only_the_package_itself_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)

    def lacking(name: str):
        def do():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        return do

    with pytest.raises(MissingSimulatorError, match="box must be installed: pip install"):
        load("box", lacking("box.part"), "bench", missing=MissingSimulatorError)
    for wrong in (lacking("other"), lambda: {}["a"], lambda: os.stat("/nonexistent")):
        with pytest.raises(ImportError, match=r"box must load, got .*Error") as caught:
            load("box", wrong, "bench", missing=MissingSimulatorError)
        assert not isinstance(caught.value, MissingSimulatorError)
        assert caught.value.__cause__ is not None
    with pytest.raises(ImportError, match=r"'other'; pip install \"pwm-sdk\[bench\]\" brings what"):
        load("box", lacking("other"), "bench")
    monkeypatch.setenv("MUJOCO_GL", "egl")
    with pytest.raises(ImportError, match="box must load without MUJOCO_GL, got"):
        load("box", lacking("other"), "bench")


@pytest.mark.parametrize("named", [None, ""])
def test_no_renderer_is_looked_for_where_none_is_named(
    named: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    if named is not None:
        monkeypatch.setenv("MUJOCO_GL", named)
    assert load("box", lambda: os.environ["MUJOCO_GL"], "bench", headless=True) == "disable"
    assert os.environ.get("MUJOCO_GL") == named


@pytest.mark.parametrize("name", ["walker-walk", "mw-reach", "hopper-forward"])
def test_render_says_how_to_film(name: str) -> None:
    with pytest.raises(NotImplementedError, match=r"MUJOCO_GL=egl .* before the first environment"):
        make_gym(name).render()


@pytest.mark.parametrize("name", ["mw-reach"])
def test_copies_that_would_be_wrong_are_refused(name: str) -> None:
    env = make_gym(name, seed=0)
    for copied in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="must be made again, not copied or pickled"):
            copied(env)


@pytest.mark.parametrize(
    "name", ["walker-walk", "cup-spin", "reacher-three-easy", "hopper-forward", "mass-spring"]
)
def test_copies_go_on_alike(name: str) -> None:
    env = make_gym(name, seed=0)
    env.reset()
    zero = np.zeros(env.action_space.shape[0])
    env.step(zero)

    def play(one: Any) -> list[np.ndarray]:
        steps = [one.step(zero + 0.5)[0] for _ in range(3)]
        return [*steps, one.reset()[0], one.reset()[0]]

    # The original last: copies that share anything with it would move it on.
    every = copy.deepcopy(env), pickle.loads(pickle.dumps(env)), env
    first, *others = [play(one) for one in every]
    for other in others:
        np.testing.assert_array_equal(other, first)
