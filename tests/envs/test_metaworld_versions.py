"""Where Meta-World v3 differs from the v2 tasks of published numbers: the side that runs here."""

from typing import Any

import numpy as np
import pytest

from pwm_sdk.envs.factory import make_gym

STILL, UP = np.zeros(4, np.float32), np.array([0.0, 0.0, 1.0])


def started(task: str) -> Any:
    """The simulator of a task at the start of an episode."""
    env = make_gym(f"mw-{task}", seed=0)
    env.reset()
    return env.unwrapped.simulator


def judged(simulator: Any, *, opening: float = 0.0, **places: np.ndarray) -> tuple[float, Any]:
    """Reward and notes for a made-up observation; `first` and `second` are objects."""
    observation = np.zeros(39)
    observation[3] = opening
    for name, start in (("first", 4), ("second", 11)):
        observation[start : start + 3] = places.get(name, 0.0)
    return simulator.evaluate_state(observation, STILL)


@pytest.mark.parametrize("task", ["button-press-topdown", "button-press-topdown-wall"])
def test_a_button_counts_as_pressed_within_24_millimetres(task: str) -> None:
    simulator = started(task)
    above = [simulator._target_pos + gap * UP for gap in (0.021, 0.023, 0.025)]
    assert [judged(simulator, first=place)[1]["success"] for place in above] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("task", ["button-press-topdown", "button-press-topdown-wall"])
def test_the_hole_of_a_button_is_seen_where_it_is(task: str) -> None:
    env = make_gym(f"mw-{task}", seed=0)
    seen = []
    for _ in range(3):
        seen.append(env.reset()[0][36:])
        hole = env.unwrapped.simulator.data.site("hole").xpos
        np.testing.assert_allclose(seen[-1], hole, atol=1e-6)
    assert len(np.unique(seen, axis=0)) == 3


def test_the_button_behind_a_wall_rewards_an_open_gripper() -> None:
    simulator = started("button-press-topdown-wall")
    place = simulator._target_pos
    shut, half, wide = (judged(simulator, opening=x, first=place)[0] for x in (0.0, 0.5, 1.0))
    assert shut < half < wide


def test_the_bonus_of_handle_pull_compares_depth_with_height() -> None:
    simulator = started("handle-pull")
    place = simulator.tcp_center.copy()
    simulator._target_pos = place + 0.3 * UP
    simulator.obj_init_pos = place - np.array([0.1, 0.0, 0.0])  # moved aside, but not lifted
    assert 1.0 < judged(simulator, opening=1.0, first=place)[0] < 10.0
    simulator.obj_init_pos[2] = place[1]  # as high as the handle is deep
    assert judged(simulator, opening=1.0, first=place)[0] <= 1.0


def test_a_stick_must_be_held_by_both_pads(monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = started("stick-push")
    lifted = simulator.stick_init_pos + 0.05 * UP
    places = {"first": lifted, "second": simulator._target_pos}
    assert judged(simulator, opening=0.5, **places)[1]["success"] == 0.0
    monkeypatch.setattr(type(simulator), "touching_main_object", True)
    assert judged(simulator, opening=0.5, **places)[1]["success"] == 1.0


def test_the_basketball_lies_where_it_was_drawn_and_the_arm_rests() -> None:
    env = make_gym("mw-basketball", seed=0)
    seen = np.stack([env.reset()[0] for _ in range(4)])
    simulator = env.unwrapped.simulator
    np.testing.assert_allclose(seen[-1, 4:6], simulator.obj_init_pos[:2], atol=5e-3)
    assert len(np.unique(seen[:, 4:6], axis=0)) == 4
    np.testing.assert_allclose(seen[:, :3], np.tile([0.0, 0.6, 0.2], (4, 1)), atol=0.02)


@pytest.mark.parametrize("task", ["plate-slide-side", "plate-slide-back"])
def test_the_body_of_a_plates_goal_stays(task: str) -> None:
    env = make_gym(f"mw-{task}", seed=0)
    simulator, goals, bodies = env.unwrapped.simulator, [], []
    for _ in range(3):
        goals.append(env.reset()[0][36:])
        bodies.append(simulator.data.body("puck_goal").xpos.copy())
    assert len(np.unique(goals, axis=0)) == 3
    assert len(np.unique(bodies, axis=0)) == 1


def test_the_earlier_frame_of_a_reset_is_the_current_one() -> None:
    env = make_gym("mw-push", seed=0)
    env.reset()
    last = env.step(np.ones(4))[0]
    observation, _ = env.reset()
    np.testing.assert_array_equal(observation[18:36], observation[:18])
    assert np.abs(observation[18:36] - last[:18]).max() > 0.01
