"""The comparison as a user calls it: methods of one's own, resuming, failures, refusals."""

from __future__ import annotations

import contextlib
import csv
import io
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from pwm_sdk import MT80, Task, make_gym, register_task
from single import METHODS, find_method, no_ends, obstacle
from single.jobs import Job, Settings
from single_task import main

BUILT_IN = [name for name in METHODS if name not in ("random", "pwm-no-ends")]

TINY = Settings(steps=300, readings=1, reading_episodes=1, final_episodes=1, scale="tiny")
PLUGIN = """
from single import method
from pwm_sdk import MassSpring, RandomBehaviour, SimulatorEnv, Task, register_task

sheet = Task("sheet", -1, "mine", 16, 6, 20, action_repeat=1, score_scale=10.0)
register_task(sheet, lambda: SimulatorEnv(MassSpring(2, 2)))

def no_pole(task):
    return None if task.name == "cartpole-swingup" else "no pole"

@method("still", obstacle=no_pole)
def still(job):
    job.goes_on(RandomBehaviour(1, job.task.action_dim, job.seed))

@method("broken")
def broken(job):
    raise RuntimeError("out of order")
"""


def run(out: Path, *arguments: str) -> str:
    """Call the benchmark with these arguments; return what it prints."""
    before, printed = sys.argv, io.StringIO()
    sys.argv = ["single_task.py", "--preset", "smoke", "--out", str(out), *arguments]
    try:
        with contextlib.redirect_stdout(printed):
            main()
    finally:
        sys.argv = before
    return printed.getvalue()


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_methods_spend_their_budget(name: str, tmp_path: Path) -> None:
    job = Job(name, MT80["cartpole-swingup"], 0, TINY, tmp_path)
    find_method(name)(job)
    result = job.finish()
    # A method may end its last round: an episode of 500 steps is the longest.
    assert 300 <= result["steps"] <= 800
    assert 0.0 <= result["return"] <= 1000.0


@pytest.mark.parametrize("name", ["pwm", "shac", "tdmpc2", "dreamerv3"])
def test_models_learn_where_episodes_end_early(name: str, tmp_path: Path) -> None:
    job = Job(name, make_gym("hopper-forward").task, 0, TINY, tmp_path)
    find_method(name)(job)
    assert 300 <= job.steps <= 800


def test_falls_can_be_hidden_from_a_method(tmp_path: Path) -> None:
    env = no_ends.FallsAreCuts(make_gym("hopper-forward", seed=0))
    env.action_space.seed(0)
    env.reset()
    steps, flags = 0, (False, False)
    while not any(flags):
        _, _, *flags, _ = env.step(env.action_space.sample())
        steps += 1
    assert (steps < 250, *flags) == (True, False, True)
    job = Job("pwm-no-ends", make_gym("hopper-forward").task, 0, TINY, tmp_path)
    find_method("pwm-no-ends")(job)
    result = job.finish()
    assert 300 <= result["steps"] <= 800
    assert 0.0 < result["length"] < 250.0  # it is evaluated with its falls


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("runs")
    return out / "single-smoke", run(out, "--methods", "ppo", "random")


def test_everything_ends_in_tables_and_files(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    assert "| task | PPO | random |" in printed
    assert (folder / "report.md").read_text().strip() == printed.strip()
    assert (folder / "curves.png").stat().st_size > 10_000
    with (folder / "scores.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"ppo", "random"}
    assert (float(rows["ppo"]["steps"]), float(rows["random"]["steps"])) == (320.0, 0.0)
    for row in rows.values():
        assert 0.0 <= float(row["return"]) <= 1000.0


def test_more_methods_join_and_what_is_finished_stays(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    folder, _ = finished
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/*/*/result.json")}
    with pytest.raises(SystemExit, match=r"1 of 3 jobs failed .*: broken/cartpole-swingup/0"):
        run(folder.parent, "--plugin", str(plugin), "--methods", "still", "broken", "ppo")
    error = folder / "cartpole-swingup" / "broken" / "seed0" / "error.txt"
    assert "out of order" in error.read_text()
    assert "| task | PPO | still | random |" in (folder / "report.md").read_text()
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())


def test_tasks_of_ones_own_join(finished: tuple[Path, str], tmp_path: Path) -> None:
    """SHAC differentiates the simulator behind a plugin's task."""
    folder, _ = finished
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    command = "--plugin", str(plugin), "--tasks", "sheet", "--methods", "shac", "random"
    text = run(folder.parent, *command)
    with (folder / "scores.csv").open() as file:
        rows = {r["method"]: r for r in csv.DictReader(file) if r["task"] == "sheet"}
    steps = {name: float(row["steps"]) for name, row in rows.items()}
    assert steps == {"shac": 304.0, "random": 0.0}  # windows of 4 steps in 2 environments
    for row in rows.values():
        assert abs(float(row["return"])) < 20.0
        assert float(row["scaled"]) == pytest.approx(float(row["return"]) / 10.0)
    assert "| sheet |" in text


def test_a_refusal_gives_the_simulators_reason() -> None:
    why = [obstacle("shac", MT80[name]) for name in ("pendulum-swingup", "fish-swim")]
    assert "must have a differentiable reward, got 'pendulum-swingup'" in str(why[0])
    assert "must have a simulator, got 'fish-swim', for which none was written" in str(why[1])
    assert obstacle("shac", MT80["hopper-hop"]) is None
    own = Task("pole-of-mine", -1, "mine", 5, 1, 50)
    task = register_task(own, lambda: make_gym("cartpole-swingup").unwrapped)
    assert "must show a SimulatorEnv step by step, got 'pole-" in str(obstacle("shac", task))


def test_what_a_method_cannot_learn_is_listed(
    finished: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = finished
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    tasks = "--tasks", "cartpole-swingup", "pendulum-swingup"
    text = run(folder.parent, "--methods", "still", "random", "--plugin", str(plugin), *tasks)
    assert "pendulum-swingup still: not run, no pole" in capsys.readouterr().err
    assert "Not run: still on pendulum-swingup: no pole." in text
    assert (folder / "cartpole-swingup" / "still" / "seed0" / "result.json").exists()
    assert not (folder / "pendulum-swingup" / "still" / "seed0").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--methods", "sca"), "method must be known, got 'sca'; nearest: sac"),
        (("--tasks", "cartpole-swingpu"), "cartpole-swingup"),
        (
            ("--methods", "shac", "--tasks", "mw-reach"),
            "tasks must hold one for shac, got mw-reach",
        ),
        (("--seeds", "0"), "seeds must be at least 1, got 0"),
        (("--budget-steps", "-3"), "steps must be positive, got -3"),
        (("--plugin", "nothing.py"), "plugin must be a python file, got nothing.py"),
    ],
)
def test_senseless_commands_are_refused(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SystemExit, match=message):
        run(tmp_path, *arguments)


def test_other_budgets_are_not_mixed_into_a_run(finished: tuple[Path, str]) -> None:
    with pytest.raises(SystemExit, match="other settings"):
        run(finished[0].parent, "--budget-steps", "400")
