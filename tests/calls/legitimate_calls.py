"""Calls that look wrong and are right, or whose error names another argument, with the reasons.

Patterns of callable, argument and label, which stand for the whole of each.
"""

from __future__ import annotations

import re

ELEMENTWISE = (
    r"functional\.(gaussian|losses|moments|planning|scale|twohot|gradients|rewards)\..*|tolerance"
    r"|clip_cotangent|functional\.activations\.mish|functional\.returns\.(gamma_like|alive_steps)"
)
SIMULATORS = r"(MassSpring|MuJoCoModel|EncodedSimulator)\..*"

# what is accepted
LEGITIMATE = [
    # numbers
    (".*", ".*", "large", "a number without an upper bound"),
    (".*", ".*", "zero", "0 is among the values: of an index, a seed, sizes that may be missing"),
    (".*", ".*max_norm|limit", "inf", "no gradient is clipped"),
    (r".*(losses|twohot).*", "low|high", "negative", "bins may lie anywhere"),
    (r".*bounded_log_std", "low|high", "negative", "a log"),
    ("SACConfig", "target_entropy", "negative", "an entropy"),
    ("SACConfig|PolicyPrior", "log_std", "of negatives", "a log"),
    (".*tolerance", "bounds", "of negatives", "any interval"),
    (r"(MPPI|PWMConfig|TDMPC2Config).*|discount_of", "gamma", "list", "one per policy or task"),
    ("Task.score", "episode_return|success", "negative", "costs are negative"),
    # tensors
    (".*", ".*", "nan|inf", "goes through to the result, which is NaN too: reading every tensor "
        "would wait for the device, and the losses' watch names what was not finite"),
    (".*", ".*", "double", "cast to the type of the weights, or the result is double too"),
    (".*", ".*", "more axes", "leading axes are free"),
    (ELEMENTWISE, ".*", "rank|last axis|meta|dtype", "elementwise, over whatever axes there are"),
    (SIMULATORS, ".*", "meta|dtype", "computed on the CPU, or where the state lies, in its dtype"),
    (".*", "observation", "dtype", "integers are standardised, or cast by the first layer"),
    (".*", "task", "rank", "one id for all"),
    (r".*\.context", "task", "last axis", "any number of ids"),
    (".*", "heads|reward_weight|offsets", "last axis", "of any length"),
    (r"LatentRollout\.draw_noise", "latent", "last axis", "only its leading shape is read"),
    (r"Return(Scale|Deviation)\.update", "returns", "last axis", "any number of returns"),
    (r"RandomBehaviour\.__call__", "observation", "last axis", "not looked at"),
    ("minibatches", "tensors", "meta|last axis", "one tensor alone, of any size"),
    (r"make_episode|.*from_arrays", "actions|observations", "last axis", "the first size seen"),
    (".*", "context", "None", "a model without tasks"),
    # objects
    (r"observed_latents|LatentTracker\.acted", "action", "last axis", "not read without memory"),
    ("frozen", "modules", ".*", "plain objects are left alone"),
    (r"LatentBehaviour.*|.*\.behaviour", "tasks", "of None", "not known, of a model without"),
    (r"ObservationPolicy(\.bounded)?", "low|high", "list|negative", "any interval, by action"),
    (r"ObservationPolicy\.act", "observation", "list|numpy", "whatever becomes a tensor"),
    ("run_identity", "settings|part", ".*", "whatever JSON says, or str"),
    ("write_json|save_state", "value|state", ".*", "whatever JSON, or torch, saves"),
    ("PWM|Population|LatentRollout", "model", "None", "set before the first update"),
    ("EnvPool|make_pool", "workers", "None", "none"),
    ("GrowingBatch", "reward_scale", "of None", "by the data"),
    (r"GrowingBatch|AgentLoop|RoundReport\.row", "names", "of str", "what tables call them"),
    ("RoundReport", ".*", "objects|last axis|negative", "a record, which loops make"),
    ("Run", "settings", ".*", "whatever JSON says"),
    ("OnlineConfig", "activation", "unknown", "refused by the networks that take it"),
    ("Episode", ".*", "objects|last axis", "a record: rows are checked where they are kept"),
    (r"TaskSet\..*", "key|names", "int|of int", "indices"),
    ("FiniteWatch", "names", "of str", "names"),
    ("optimize|FiniteWatch.note", "name", "unknown", "a name"),
    ("ProgressBar|make_logger", "name|unit|project", "unknown|str", "what it is called"),
    ("ProgressBar", "show", "of str", "names of metrics"),
    (".*", "remedy", "unknown", "a text"),
    ("linear_decay", "progress", "negative", "before the start, as at it"),
    (r"Task(\.from_env)?", "name|suite", "unknown", "a name"),
    (r"EpisodeCutter|ReplayBuffer\.from_.*", "bounds", "of negatives", "any interval"),
    ("fit", "path", "str", "a new file"),
    # data
    (".*", "batch|trajectory|episode", "without .*", "an entry that is not read, or not needed"),
    (".*", ".*", "empty|longer", "a sequence of any length"),
]  # fmt: skip

# what is refused in other words than the argument's name
NAMED_OTHERWISE = [
    (".*", ".*", "more axes", "two arguments that do not fit, of which the other is named"),
    (".*", "path|paths|source|contents", "str|unknown|of str|.*", "the file is named, or its key"),
    (r"MPPI\..*", ".*", "nan|inf", "values of candidates, which it becomes"),
    (r"EncodedSimulator\.features", "latent", "double", "observation, which it becomes"),
    (SIMULATORS, "action", "nan", "the state that it led to"),
    (SIMULATORS, ".*", "meta", "there are no numbers to simulate"),
    (r"functional\.scale\.running_scale", "values", "meta", "there are no numbers to sort"),
    (r"ObservationPolicy\.act", "observation", "meta", "there are no numbers to act by"),
    ("evaluate_members", "envs", ".*", "tasks, of which there are others"),
    ("check_agent", "batch|observation", ".*", "what the agent that is checked says of it"),
    ("GrowingBatch", "learners", "empty|longer", "tasks, which are the learners'"),
    ("WorldModel", "num_tasks", "zero", "action_dims, which are those of tasks"),
    ("minibatches", "tensors", ".*", "latents and targets, which they are"),
    ("world_model_loss", "reward_weight", "meta", "moved by who makes the table"),
    (r"ReplayBuffer\.add", "episode", ".*", "its entries by their names"),
    (r"SHAC\.encode", "observation", "last axis", "values of the normalizer"),
    ("EnvPool", "envs", ".*", "env, one of them"),
    ("evaluate", "env", ".*", "environment 0, one of them"),
    ("make_pool", "envs", ".*", "environment 0 or a task, one of them"),
    ("to_tdmpc2_chunks", "tasks", "empty", "source, which then holds nothing"),
    ("to_tdmpc2_chunks", "tasks", "of .*", "task, one of them"),
    ("evaluate", "task", "negative", "tasks, of all environments"),
    ("to_minari", "dataset_id", "unknown", "Minari's own words"),
    (r"TaskSet\..*", "key|names", "unknown|of .*|empty", "task, one of them"),
]  # fmt: skip


def reason(call: str, argument: str, label: str, refused: bool = False) -> str | None:
    """Return why a call that looks wrong is legitimate, or is refused otherwise, or None."""
    for pattern in NAMED_OTHERWISE if refused else LEGITIMATE:
        names = zip(pattern[:3], (call, argument, label), strict=True)
        if all(re.fullmatch(p, name) for p, name in names):
            return pattern[3]
    return None
