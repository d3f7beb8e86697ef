"""MT30 and MT80 entry by entry, written down a second time as the published tables list them."""

import pytest

from pwm_sdk import MT30, MT80

# ids, tasks of one body, observation size, action size
DM_CONTROL = [
    ((0, 1, 2), "walker", "stand walk run", 24, 6),
    ((3,), "cheetah", "run", 17, 6),
    ((4, 5), "reacher", "easy hard", 6, 2),
    ((6,), "acrobot", "swingup", 6, 1),
    ((7,), "pendulum", "swingup", 3, 1),
    ((8, 9, 10, 11), "cartpole", "balance balance-sparse swingup swingup-sparse", 5, 1),
    ((12,), "cup", "catch", 8, 2),
    ((13,), "finger", "spin", 9, 2),
    ((14, 15), "finger", "turn-easy turn-hard", 12, 2),
    ((16,), "fish", "swim", 24, 5),
    ((17, 18), "hopper", "stand hop", 15, 4),
    ((19, 20), "walker", "walk-backwards run-backwards", 24, 6),
    ((21, 22, 23, 24), "cheetah", "run-backwards run-front run-back jump", 17, 6),
    ((25,), "hopper", "hop-backwards", 15, 4),
    ((26, 27), "reacher", "three-easy three-hard", 8, 3),
    ((28,), "cup", "spin", 8, 2),
    ((29,), "pendulum", "spin", 3, 1),
]
META_WORLD = """
30 assembly, 31 basketball, 32 button-press-topdown, 33 button-press-topdown-wall, 34 button-press,
35 button-press-wall, 36 coffee-button, 37 coffee-pull, 38 coffee-push, 39 dial-turn,
40 disassemble, 41 door-open, 42 door-close, 43 drawer-close, 44 drawer-open, 45 faucet-open,
46 faucet-close, 47 hammer, 48 handle-press-side, 49 handle-press, 50 handle-pull-side,
51 handle-pull, 52 lever-pull, 53 peg-insert-side, 54 peg-unplug-side, 55 pick-out-of-hole,
56 pick-place, 57 pick-place-wall, 58 plate-slide, 59 plate-slide-side, 60 plate-slide-back,
61 plate-slide-back-side, 62 push-back, 63 push, 64 push-wall, 65 reach, 66 reach-wall,
67 shelf-place, 68 soccer, 69 stick-push, 70 stick-pull, 71 sweep-into, 72 sweep, 73 window-open,
74 window-close, 75 bin-picking, 76 box-close, 77 door-lock, 78 door-unlock, 79 hand-insert
"""


def test_every_dm_control_task() -> None:
    seen = 0
    for ids, body, names, observation_dim, action_dim in DM_CONTROL:
        for index, name in zip(ids, names.split(), strict=True):
            task = MT30[index]
            assert task is MT30[f"{body}-{name}"] is MT80[index]
            assert (task.name, task.index, task.suite) == (f"{body}-{name}", index, "dmcontrol")
            assert (task.observation_dim, task.action_dim) == (observation_dim, action_dim)
            assert (task.episode_length, task.action_repeat) == (500, 2)
            assert (task.reward_scale, task.score_scale) == (2.0, 1000.0)
            assert task.discount == pytest.approx(0.99)
            assert task.custom is (index >= 19)
            seen += 1
    assert seen == len(MT30) == 30


def test_every_meta_world_task() -> None:
    entries = [entry.split() for entry in META_WORLD.split(",")]
    for index, name in entries:
        task = MT80[int(index)]
        assert task is MT80[f"mw-{name}"]
        assert (task.name, task.index, task.suite) == (f"mw-{name}", int(index), "metaworld")
        assert (task.observation_dim, task.action_dim) == (39, 4)
        assert (task.episode_length, task.action_repeat) == (100, 2)
        assert (task.reward_scale, task.score_scale) == (20.0, None)
        assert task.discount == pytest.approx(0.95)
        assert task.custom is False
    assert len(entries) == 50
    assert tuple(MT80)[:30] == tuple(MT30)
    assert tuple(task.index for task in MT80) == tuple(range(80))
    assert (MT30.observation_dim, MT30.action_dim) == (24, 6)
    assert (MT80.observation_dim, MT80.action_dim) == (39, 6)


def test_scores() -> None:
    """dm_control by return alone, Meta-World by success at the last step alone."""
    assert MT80["cup-spin"].score(episode_return=1000.0, success=0.0) == 1.0
    assert MT80["mw-door-lock"].score(episode_return=2000.0, success=0.0) == 0.0
