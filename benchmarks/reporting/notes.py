"""What a report says under its tables, since the numbers alone mislead."""

from __future__ import annotations

from collections.abc import Sequence

from pwm_sdk import MT80
from pwm_sdk.runs.report import RESAMPLES, Row, fill, label_of, methods_of
from reporting.published import METHODS, Published

SCORES = (
    "Mean over seeds, +- standard deviation over seeds. Mean actions of the final policies in "
    "fresh environments. Score: return / 1000 (dm_control), success at the last step (Meta-World). "
    "Gap: predicted minus real sum of the next 16 rewards, in units of the largest reward per step."
)
LEARNED = "Learned: the mean score is at least 0.1 above that of random actions."
SEEDS = "Return, and success at the last step for Meta-World:"
PUBLISHED = (
    'Columns named "published" are figures taken from {sources}; they were not measured here. '
    "{benchmark} models: PWM with horizon 16, one seed, 10 episodes; TD-MPC2, 10 episodes of one "
    "model. The score of a Meta-World task is its success."
)
DREAMER = (
    "DreamerV3: one agent per task, 5 seeds, best point of the training curve up to 490,000 "
    "environment steps."
)
DOUBTS = (
    "**The published Meta-World success is doubtful; compare the return first.** PWM published "
    "results with two world models, trained with horizon 3 and 16: 48 of the 50 tasks have the "
    "same success in both, while their returns differ by a factor of 2 in the median and of 18 at "
    "most, so both cannot be measurements. Four tasks have success 1.0 with small returns "
    "(disassemble 157, handle-pull-side 119, assembly 243, stick-push 353, of at most 2000). "
    "Published tasks are Meta-World v2, those measured here v3: rewards, success tests or start "
    "states differ for some."
)
DAMAGED = (
    "The published MT30 line of walker-walk-backwards is damaged: its PWM value repeats that of "
    "the model with horizon 3."
)
AGGREGATES = (
    "Mean and median are over the tasks' means; IQM is the mean of the middle half of all seeds "
    "and tasks. Where no method has more than two values there is no line. Brackets: 95 % "
    "stratified bootstrap over seeds within each task (rliable, {resamples} resamples, fixed "
    "seed); none for one seed, which leaves nothing to resample. Published lines take one value "
    "per task, over the same tasks as the run, and are left out where one of these was not "
    "published. Published scores of whole benchmarks, mean / IQM: {whole}."
)


def published_note(tasks: Sequence[str], published: Published) -> str:
    """Say where the published columns are from, and why some are doubtful."""
    sources = ", ".join(f"`{name}`" for name in published.sources(tasks))
    notes = [PUBLISHED.format(sources=sources, benchmark=published.benchmark)]
    if any(published.is_single_task(method) for method in published.methods(tasks)):
        notes[0] += f" {DREAMER}"
    if published.values("PWM", [t for t in tasks if MT80[t].suite == "metaworld"], "score"):
        notes.append(DOUBTS)
    if published.benchmark == "MT30" and "walker-walk-backwards" in tasks:
        notes.append(DAMAGED)
    return "\n\n".join(map(fill, notes))


def aggregate_note(published: Published) -> str:
    """Explain the aggregates and quote the published ones of the whole benchmark."""
    quoted = []
    for method, (label, _) in METHODS.items():
        mean, iqm = (published.aggregate(method, name) for name in ("_MEAN_", "_IQM_"))
        if mean is not None and iqm is not None:
            quoted.append(f"{label} {mean:.3f} / {iqm:.3f} on {published.basis(method)}")
    return fill(AGGREGATES.format(resamples=RESAMPLES, whole=", ".join(quoted)))


def stopped(rows: Sequence[Row]) -> list[str]:
    """Name the policies that diverged and were stopped, since the others went on."""
    names = [f"{row['task']} (seed {row['seed']})" for row in rows if row.get("stopped")]
    if not names:
        return []
    return [fill(f"Stopped and scored as they were before they diverged: {', '.join(names)}.")]


def left_out(episodes: int) -> list[str]:
    """Say how many training episodes no model has seen."""
    if not episodes:
        return []
    told = f"{episodes} training episode{'s' * (episodes > 1)} shorter than a window"
    return [fill(f"Left out of the data: {told}.")]


def incomplete(rows: Sequence[Row], tasks: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """Name what is missing, since means over tasks use complete seeds only."""
    lines = []
    for method in methods_of(rows):
        have = {(row["task"], row["seed"]) for row in rows if row["method"] == method}
        none = [seed for seed in seeds if not any((task, seed) in have for task in tasks)]
        lack = [f"seed {seed}" for seed in none]
        some = [seed for seed in seeds if seed not in none]
        lack += [f"{task} (seed {s})" for task in tasks for s in some if (task, s) not in have]
        if lack:
            lines.append(f"Not measured, {label_of(method)}: {', '.join(lack)}.")
    if lines:
        lines.append("Means over several tasks take the seeds that have all of them.")
    return list(map(fill, lines))
