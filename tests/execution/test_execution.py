"""However an update is executed, it is the same update."""

from __future__ import annotations

import copy
import warnings
from itertools import product

import pytest
import torch
from small_updates import CONFIG, MEMBERS, PUBLISHED, Kind, assemble, difference, outcome, starts
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from waits import NoCopying, NoReading

from pwm_sdk.algorithms.pwm import PWMConfig
from pwm_sdk.execution.graphs import Captured
from pwm_sdk.execution.settings import Execution

EAGER = [
    Execution(check_every=2),
    Execution(cuda_graphs=True),
    Execution(precision="tf32"),  # of which a CPU has nothing
    Execution(precision="bf16"),
]
COMPILED, COMPILED_BF16 = Execution(compile=True), Execution(compile=True, precision="bf16")
TOLERANCE = {"fp32": 1e-6, "tf32": 0.0, "compiled": 1e-5, "bf16": 0.05}  # of every tensor
STRAY = 0.2  # of a network's step in bf16: Adam's first steps follow the signs of small gradients

VARIANTS = [
    *product(EAGER, (None, 2, MEMBERS), ("ours", "theirs")),
    (COMPILED, 2, "ours"),
    (COMPILED_BF16, None, "ours"),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in (
            (COMPILED, None, "theirs"),
            (COMPILED, MEMBERS, "theirs"),
            (COMPILED_BF16, 2, "theirs"),
            (COMPILED_BF16, MEMBERS, "ours"),
        )
    ),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
@pytest.mark.parametrize(("execution", "kind", "settings"), VARIANTS, ids=str)
def test_every_variant_is_the_eager_update(
    monkeypatch, execution: Execution, kind: Kind, settings: str
) -> None:
    """Losses, each gradient and each parameter, after two updates (bf16: after one).

    In bf16 parameters that start at zero are compared as part of their network's step only.
    """
    # Without a GPU a captured pass is the pass itself, behind the same door.
    monkeypatch.setattr(Execution, "on", lambda self, device, **_: self)
    monkeypatch.setattr("pwm_sdk.execution.graphs.CudaGraphModule", lambda function: function)
    config, half = {"ours": CONFIG, "theirs": PUBLISHED}[settings], execution.precision == "bf16"
    size = {"updates": 1, "count": 256} if half else {"updates": 2, "count": 32}
    first, own = assemble(kind, config=config), assemble(kind, execution, config)
    zero = {
        f"{part}.{name}"
        for part in ("actor", "critic", "target")
        for name, parameter in getattr(first, part).named_parameters()
        if half and not parameter.any()
    }
    expected, actual = outcome(first, **size), outcome(own, **size)
    assert set(actual) == set(expected)
    tolerance = TOLERANCE["compiled" if execution.compile and not half else execution.precision]
    wrong = {}
    for name in set(expected) - zero:
        error = difference(actual[name], expected[name])
        if not error <= (STRAY if half and name.startswith("step") else tolerance):
            wrong[name] = error
    assert wrong == {}


class Products(TorchDispatchMode):
    """Notes whether tf32 was allowed at each product of matrices, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed: list[bool] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function._overloadpacket in flop_registry:
            self.allowed.append(torch.backends.cuda.matmul.allow_tf32)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_tf32_is_allowed_for_the_products_of_an_update_and_no_others(
    monkeypatch, precision: str
) -> None:
    scope = Execution.tf32  # a GPU's setting can be made without one
    monkeypatch.setattr(Execution, "tf32", lambda self, _: scope(self, torch.device("cuda")))
    pwm = assemble(None, Execution(precision=precision))
    with Products() as products:
        pwm.update(starts(None))
    assert len(products.allowed) > 50
    assert set(products.allowed) == {precision == "tf32"}
    assert not torch.backends.cuda.matmul.allow_tf32


def test_the_setting_of_tf32_is_put_back() -> None:
    gpu, execution = torch.device("cuda"), Execution(precision="tf32")

    def settings() -> tuple[str, str, bool]:
        products = torch.backends.cuda.matmul
        precise = torch.get_float32_matmul_precision()
        return precise, products.fp32_precision, products.allow_tf32

    before = settings()
    assert not before[2]
    with pytest.raises(KeyError), execution.tf32(gpu):
        assert settings() == ("high", "tf32", True)
        with execution.tf32(gpu):  # inside of itself it changes nothing
            pass
        assert settings() == ("high", "tf32", True)
        raise KeyError
    assert settings() == before
    with execution.tf32(torch.device("cpu")), Execution().tf32(gpu):
        assert settings() == before
    try:
        torch.set_float32_matmul_precision("medium")  # what a user set stays
        with execution.tf32(gpu):
            assert settings() == ("medium", "tf32", True)
        assert settings() == ("medium", "tf32", True)
    finally:
        torch.set_float32_matmul_precision("highest")


def test_nothing_is_read_inside_of_a_graph_even_if_every_update_is(monkeypatch) -> None:
    def captured(function):
        def run(*arguments):
            with NoCopying(), NoReading():
                return function(*arguments)

        return run

    monkeypatch.setattr(Execution, "on", lambda self, device, **_: self)
    monkeypatch.setattr("pwm_sdk.execution.graphs.CudaGraphModule", captured)
    pwm, bad = assemble(None, Execution(cuda_graphs=True, check_every=1)), starts(None)
    before = copy.deepcopy(pwm.actor.state_dict())
    bad["observation"][:] = torch.nan
    with pytest.raises(ValueError, match=r"imagined returns and the actor's .* must be finite"):
        pwm.update(bad)  # told by the update itself
    torch.testing.assert_close(pwm.actor.state_dict(), before)
    pwm.update(starts(None))
    assert not torch.equal(pwm.actor.net.head.weight, before["net.head.weight"])


@pytest.mark.parametrize("published", [False, True])
def test_what_is_not_finite_is_not_stepped_and_told_later(published: bool) -> None:
    config = PWMConfig.published(horizon=3) if published else CONFIG
    pwm, batch = assemble(None, Execution(check_every=2), config), starts(None)
    bad = batch.clone()
    bad["observation"][:] = torch.nan
    before = copy.deepcopy((pwm.actor.state_dict(), pwm.critic.state_dict()))
    scale = copy.deepcopy(pwm.return_scale.state_dict())
    pwm.update(bad)
    torch.testing.assert_close((pwm.actor.state_dict(), pwm.critic.state_dict()), before)
    torch.testing.assert_close(pwm.return_scale.state_dict(), scale)
    with pytest.raises(ValueError, match=r"imagined returns and the actor's .* must be finite"):
        pwm.update(batch)
    assert all(torch.isfinite(p).all() for p in pwm.actor.parameters())


def test_the_numbers_of_a_captured_step_keep_their_place(monkeypatch) -> None:
    """A graph replays addresses: rates, flags and the scale must be written, not replaced."""
    monkeypatch.setattr(Execution, "on", lambda self, device, **_: self)
    monkeypatch.setattr("pwm_sdk.execution.graphs.CudaGraphModule", lambda function: function)
    pwm = assemble(None, Execution(cuda_graphs=True, check_every=1000), PWMConfig.published())
    pwm.update(starts(None))

    def places() -> list[int]:
        tensors = [*pwm.return_scale.buffers(), pwm.finite._seen]
        for optimizer in (pwm.actor_optimizer, pwm.critic_optimizer):
            tensors += [group["lr"] for group in optimizer.param_groups]
            tensors += [v for state in optimizer.state.values() for v in state.values()]
        return [tensor.data_ptr() for tensor in (*tensors, *pwm.actor.parameters())]

    before = places()
    pwm.set_learning_rates(0.5)
    pwm.update(starts(None))
    assert places() == before
    assert float(pwm.actor_optimizer.param_groups[0]["lr"]) == pytest.approx(2.5e-4)


def test_a_state_moves_between_executions(monkeypatch) -> None:
    eager = assemble(None)
    eager.update(starts(None))
    eager.set_learning_rates(0.5)
    with monkeypatch.context() as patch:
        patch.setattr(Execution, "on", lambda self, device, **_: self)
        patch.setattr("pwm_sdk.execution.graphs.CudaGraphModule", lambda function: function)
        other = assemble(None, Execution(cuda_graphs=True))
        other.load_state_dict(copy.deepcopy(eager.state_dict()))
        group = other.actor_optimizer.param_groups[0]
        assert isinstance(group["lr"], Tensor)
        assert group["capturable"]
        expected, actual = outcome(eager), outcome(other)
        torch.testing.assert_close(actual, expected)
    again = assemble(None)
    again.load_state_dict(other.state_dict())
    group = again.actor_optimizer.param_groups[0]
    assert group["lr"] == pytest.approx(2.5e-4)
    assert not isinstance(group["lr"], Tensor)
    assert not group["capturable"]


def test_a_function_is_captured_once_for_each_shape(monkeypatch) -> None:
    made = []
    monkeypatch.setattr("pwm_sdk.execution.graphs.CudaGraphModule", lambda f: made.append(f) or f)
    double = Captured(lambda x, y: (2 * x, y))
    for size in (3, 3, 4):
        assert double(torch.ones(size), None)[0].tolist() == [2.0] * size
    double(torch.ones(3), torch.ones(1))
    assert len(made) == 3


def test_without_a_gpu_there_is_one_warning_and_no_graph() -> None:
    with pytest.warns(UserWarning, match="needs a GPU, got parameters on cpu") as found:
        pwm = assemble(None, Execution(cuda_graphs=True))
    assert len(found) == 1
    with warnings.catch_warnings(action="error"):
        actual = outcome(pwm)
    torch.testing.assert_close(actual, outcome(assemble(None)), rtol=0.0, atol=0.0)


def test_errors_name_the_argument(monkeypatch, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"precision must be one of .*, got 'fp8'"):
        Execution(precision="fp8")
    with pytest.raises(ValueError, match="check_every must be at least 1, got 0"):
        Execution(check_every=0)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ValueError, match="compile=True must find a C\\+\\+ compiler, got none"):
        assemble(None, Execution(compile=True))
    monkeypatch.setenv("CXX", "nothing++")
    with pytest.raises(ValueError, match=r"\(looked for nothing\+\+\)"):
        assemble(None, Execution(compile=True))
