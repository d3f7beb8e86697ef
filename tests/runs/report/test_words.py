"""What a report says in words."""

from __future__ import annotations

import numpy as np

from pwm_sdk.runs.report import Estimate, interval, spread, verdict


def rows(**returns: list[float]) -> list[dict]:
    """Rows of one task, a seed per return."""
    return [
        {"seed": seed, "task": "walk", "method": method, "return": value}
        for method, values in returns.items()
        for seed, value in enumerate(values)
    ]


def test_a_task_without_a_score_is_learned_where_each_seed_beats_each_of_the_baseline() -> None:
    assert verdict(rows(pwm=[5.0, 9.0], random=[1.0, 4.0])) == (
        "PWM learned 1 of 1 task: walk 7 (random 2)."
    )
    assert verdict(rows(pwm=[3.0, 9.0], random=[1.0, 4.0])) == (
        "PWM learned none of 1 task; not learned: walk 6 (random 2)."
    )


def test_a_score_must_be_a_tenth_above_the_baselines() -> None:
    scored = rows(pwm=[122.0], random=[98.0])
    for row in scored:
        row["score"] = row["return"] / 1000.0
    assert verdict(scored).endswith("not learned: walk 0.12 (random 0.10).")
    scored[0]["score"] = 0.2
    assert verdict(scored) == "PWM learned 1 of 1 task: walk 0.20 (random 0.10)."


def test_many_tasks_are_counted() -> None:
    many = [{**row, "task": f"t{i}"} for i in range(6) for row in rows(sac=[2.0], random=[1.0])]
    told = verdict(many, named=2)
    assert told == "SAC learned 6 of 6 tasks: t0 2 (random 1), t1 2 (random 1), 4 more."


def test_nothing_is_said_without_a_baseline() -> None:
    assert verdict(rows(pwm=[1.0])) == ""
    assert verdict(rows(random=[1.0])) == ""


def test_numbers() -> None:
    assert spread(np.asarray([1.0, 3.0]), 1) == "2.0 +- 1.4"
    assert spread(np.asarray([1.0])) == "1.00"
    assert spread(np.zeros(0)) == "-"
    assert interval(Estimate(0.5)) == "0.50"
    assert interval(Estimate(0.5, 0.25, 1.0), 1) == "0.5 [0.2, 1.0]"
