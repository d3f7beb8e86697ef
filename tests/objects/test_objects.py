"""Public objects in a user's hands: copied, sent to other processes, in other modes and dtypes."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import inspect
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from object_cases import CASES, Case, actor, critic, model, pwm_config, rand, starts
from tensordict import TensorDictBase
from torch import Tensor

import pwm_sdk

ROOT = Path(__file__).resolve().parents[2]
OPTIONAL = {"SoftBody": "newton"}  # class -> the package without which it cannot be made
NAMES = [n for n, p in OPTIONAL.items() if importlib.util.find_spec(p) is None]
NAMES = [name for name in CASES if name not in NAMES]

# Columns that wait for another part of the library: column -> why -> classes.
PENDING: dict[str, dict[str, tuple[str, ...]]] = {}


def names(column: str) -> list[str]:
    """Return the classes that a column holds for."""
    waiting = {name for group in PENDING.get(column, {}).values() for name in group}
    return [name for name in NAMES if name not in waiting]


def each_class(column: str) -> pytest.MarkDecorator:
    """Parametrise over them."""
    return pytest.mark.parametrize("name", names(column))


# (class, column) -> the named error that it is refused with
REFUSED: dict[tuple[str, str], str] = {}
LEARNERS = (
    "AgentLoop", "BehaviourCloning", "DreamerV3", "GrowingBatch", "PPO", "PWM", "Population",
    "SAC", "SHAC", "TDMPC2",
)  # fmt: skip
NO_GRAPH = r"loss must depend on a parameter|does not require grad|must be differentiable"
REFUSED |= {(name, mode): NO_GRAPH for name in LEARNERS for mode in ("no_grad", "inference_mode")}


def plain(value: Any) -> Any:
    """Bring a result into lists, numbers and arrays that can be compared."""
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, TensorDictBase):
        return plain(value.to_dict())
    if isinstance(value, dict):
        return [[str(key), plain(part)] for key, part in value.items() if "seconds" not in str(key)]
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    return value


def used(case: Case, made: Any) -> Any:
    """Use an object with the same global random numbers every time."""
    torch.manual_seed(7)
    np.random.seed(7)
    return plain(case.use(made))


def made(name: str) -> tuple[Case, Any]:
    torch.manual_seed(0)
    return CASES[name], CASES[name].make(lambda value: value)


def same(first: Any, second: Any) -> None:
    """Compare to the bit."""
    np.testing.assert_equal(first, second)


def test_the_table_has_every_public_class() -> None:
    """Protocols have no instances; a new class needs a case."""
    kinds = [getattr(pwm_sdk, n) for n in pwm_sdk.__all__]
    kinds = [k for k in kinds if inspect.isclass(k) and not getattr(k, "_is_protocol", False)]
    kinds = [k for k in kinds if not issubclass(k, Exception)]
    assert {kind.__name__ for kind in kinds} - {"FolderLock"} == set(CASES)


def test_a_lock_stays_in_its_process(tmp_path: Path) -> None:
    with pwm_sdk.lock_folder(tmp_path) as lock:
        for send in (copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="lock must stay in the process that took it"):
                send(lock)


@each_class("copy")
def test_deep_copies_are_independent_and_go_on_to_the_bit(name: str) -> None:
    case, original = made(name)
    used(case, original)  # copied in the middle of its life
    twin, third = copy.deepcopy(original), copy.deepcopy(original)
    expected = [used(case, twin), used(case, twin)]
    same([used(case, original), used(case, original)], expected)
    same([used(case, third), used(case, third)], expected)


@each_class("pickle")
def test_pickles_go_on_to_the_bit_in_another_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, original = made(name)
    used(case, original)
    sent = pickle.dumps(original)
    monkeypatch.chdir(tmp_path)
    received = pickle.loads(sent)
    same(used(case, received), used(case, original))


CHILD = """
import pickle, sys, torch
torch.set_num_threads(1)
from object_cases import CASES
from test_objects import used
with open(sys.argv[1], "rb") as file:
    sent = pickle.load(file)
results = {name: used(CASES[name], pickle.loads(part)) for name, part in sent.items()}
with open(sys.argv[2], "wb") as file:
    pickle.dump(results, file)
"""


def test_another_process_goes_on_to_the_bit(tmp_path: Path) -> None:
    """One new interpreter for all classes, as `spawn` starts one."""
    sent, expected = {}, {}
    for name in names("pickle"):
        case, original = made(name)
        used(case, original)
        sent[name], expected[name] = pickle.dumps(original), used(case, original)
    paths = [str(tmp_path / name) for name in ("sent", "results")]
    Path(paths[0]).write_bytes(pickle.dumps(sent))
    folders = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "objects")])
    environment = {**os.environ, "PYTHONPATH": folders, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, *paths]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path, timeout=300)
    results = pickle.loads(Path(paths[1]).read_bytes())
    for name in names("pickle"):
        same(results[name], expected[name])


@contextmanager
def refusing(name: str, column: str) -> Iterator[None]:
    """Expect the error with which the table says that this is refused."""
    if (name, column) not in REFUSED:
        yield
        return
    with pytest.raises((ValueError, TypeError, RuntimeError), match=REFUSED[name, column]):
        yield


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode"])
@each_class("mode")
def test_modes_without_gradients(name: str, mode: str) -> None:
    """Works inside or is refused, and works as ever afterwards."""
    case, original = made(name)
    used(case, original)
    with refusing(name, mode), getattr(torch, mode)():
        used(case, original)
    used(case, original)


@each_class("numpy")
def test_numbers_of_numpy(name: str) -> None:
    case, original = made(name)
    for whole, single in ((np.int64, np.float64), (np.uint16, np.float32)):
        kinds = {int: whole, float: single}
        torch.manual_seed(0)
        other = case.make(lambda value, kinds=kinds: kinds.get(type(value), lambda x: x)(value))
        first, second = used(case, original), used(case, other)
        expected, found = np.concatenate(flat(first)), np.concatenate(flat(second))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        _, original = made(name)


def flat(value: Any) -> list[Any]:
    """Return all numbers of a result."""
    if isinstance(value, list):
        return [x for part in value for x in flat(part)] or [np.zeros(0)]
    kind = np.asarray(value).dtype.kind
    return [np.asarray(value, np.float64).reshape(-1)] if kind in "fiub" else []


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@each_class("float64")
def test_double_precision_by_default(name: str, double: None) -> None:
    case, original = made(name)
    with refusing(name, "float64"):
        used(case, original)
        used(case, copy.deepcopy(original))


@each_class("double")
def test_modules_made_double(name: str, double: None) -> None:
    """`.double()` of a module made in single precision."""
    torch.set_default_dtype(torch.float32)
    case, original = made(name)
    torch.set_default_dtype(torch.float64)
    if isinstance(original, torch.nn.Module):
        original.double()
        first = used(case, original)
        assert all(x.dtype != torch.float32 for x in original.state_dict().values())
        same(used(case, copy.deepcopy(original)), used(case, original))
        assert np.isfinite(np.concatenate(flat(first))).all()


@each_class("device")
def test_another_default_device_does_not_break_objects_of_the_cpu(name: str) -> None:
    case, original = made(name)
    twin = copy.deepcopy(original)
    expected = [used(case, twin), used(case, twin)]
    torch.set_default_device("meta")
    try:
        third = copy.deepcopy(original)
        found = [used(case, original), used(case, original)]
        same([used(case, third), used(case, third)], expected)
    finally:
        torch.set_default_device(None)
    same(found, expected)


class Named(pwm_sdk.SAC):
    """A subclass with a constructor of its own."""

    def __init__(self, name: str) -> None:
        super().__init__(3, 2, pwm_sdk.SACConfig(hidden=(4,), batch_size=4))
        self.name = name


@pytest.mark.parametrize("send", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_of_a_subclass_keep_what_it_added_and_what_is_frozen(send: Any) -> None:
    original = Named("mine")
    next(original.actor.parameters()).requires_grad_(False)
    before = torch.get_rng_state()
    other = send(original)
    assert torch.equal(torch.get_rng_state(), before)
    assert type(other) is Named
    assert other.name == "mine"
    flags = [[p.requires_grad for p in sac.actor.parameters()] for sac in (original, other)]
    assert flags[0] == flags[1] == [False, *[True] * (len(flags[0]) - 1)]


@pytest.mark.parametrize("kind", ["FirstOrderActor", "Critic"])
def test_members_and_files_are_where_they_belong_whatever_the_default_device(
    kind: str, tmp_path: Path
) -> None:
    _, many = made(kind)
    many.save(tmp_path / "file")
    latent = torch.rand(2, 4, 8)
    expected = many(latent)
    torch.set_default_device("meta")
    try:
        parts = [many.take([0, 1]), type(many).stack([many.member(0), many.member(1)])]
        parts.append(type(many).from_checkpoint(tmp_path / "file"))
        values = [part(latent) for part in parts]
        for change in (pwm_sdk.init_uniform, pwm_sdk.init_orthogonal, pwm_sdk.init_fan_in):
            assert change(many)(latent).device.type == "cpu"
    finally:
        torch.set_default_device(None)
    for value in values:
        torch.testing.assert_close(value, expected)
    torch.set_default_dtype(torch.float64)
    try:
        assert many.take([0])(latent[:1]).dtype == torch.float32
        for change in (pwm_sdk.init_uniform, pwm_sdk.init_orthogonal, pwm_sdk.init_fan_in):
            assert change(many)(latent).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("kind", ["PWM", "SHAC"])
def test_algorithms_are_where_their_networks_are_whatever_the_default_device(kind: str) -> None:
    """Published settings, whose return scale the algorithm makes; a probe of the simulator."""
    _, example = made(kind)
    parts = (example.model, example.actor, example.critic)
    config = example.config if kind == "SHAC" else pwm_sdk.PWMConfig.published(horizon=2)
    torch.set_default_device("meta")
    try:
        algorithm = getattr(pwm_sdk, kind)(*parts, config)
        found = algorithm.update(*[starts(4)] * (kind == "PWM"))
    finally:
        torch.set_default_device(None)
    assert all(value.device.type == "cpu" for value in found.values() if torch.is_tensor(value))


def test_learners_are_pickled_whole_by_torch_and_with_their_methods(tmp_path: Path) -> None:
    for name in LEARNERS:
        case, original = made(name)
        used(case, original)
        torch.save(original, tmp_path / name)
        loaded = torch.load(tmp_path / name, weights_only=False)
        if name not in ("GrowingBatch", "AgentLoop"):
            update = copy.deepcopy(loaded.update)  # of a copy
            assert update.__self__ is not loaded
        same(used(case, loaded), used(case, original))


def test_networks_and_models_of_half_precision_stay_in_it() -> None:
    parts = [model().bfloat16(), actor().bfloat16(), critic().bfloat16()]
    latent = parts[0].encode(rand(4, 3).bfloat16())
    following, reward = parts[0].step(latent, parts[1](latent))
    kinds = {x.dtype for x in (latent, following, reward, parts[2](latent))}
    assert kinds == {torch.bfloat16}
    batch = starts(4)
    batch["observation"] = batch["observation"].bfloat16()
    metrics = pwm_sdk.PWM(*parts, pwm_config()).update(batch)
    assert all(torch.isfinite(value).all() for value in metrics.values())
    assert all(torch.isfinite(p).all() for p in parts[1].parameters())


def test_networks_are_mapped_by_torch_func() -> None:
    world, policy, value = model(), actor(), critic()
    latent, action = rand(5, 4, 8), rand(5, 4, 2)
    close, vmap = torch.testing.assert_close, torch.func.vmap
    close(vmap(policy)(latent), policy(latent))
    close(vmap(value)(latent), value(latent))
    rewards = vmap(lambda z, u: world.step(z, u)[1])(latent, action)
    close(rewards, world.step(latent, action)[1])
