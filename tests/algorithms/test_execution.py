"""However an update is executed, it is the same update."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from pwm_sdk.algorithms.execution import Captured, Execution
from pwm_sdk.algorithms.pwm import PWM, PWMConfig
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.normalizers import ReturnScale
from pwm_sdk.models.world_model import WorldModel

CONFIG = PWMConfig(horizon=3, critic_epochs=2, critic_splits=2, saturation=0.1, target_tau=0.1)


def assemble(
    population: int | None, execution: Execution | None = None, config: PWMConfig = CONFIG
) -> PWM:
    """The same start every time: two tasks of one and two actions, hidden behind masks."""
    torch.manual_seed(0)
    model = WorldModel(
        3, 2, num_tasks=2, task_dim=4, latent_dim=16, hidden=(8,), encoder_hidden=(8,),
        action_dims=[1, 2], num_bins=11,
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    dims = None if population is None else [1, 2]
    actor = FirstOrderActor(16, 2, (8,), population=population, action_dims=dims)
    critic = Critic(16, (8,), 3, population=population)
    scale, generator = ReturnScale(population), torch.Generator().manual_seed(1)
    return PWM(
        model, actor, critic, config, return_scale=scale, generator=generator, execution=execution
    )


def starts(population: int | None) -> TensorDict:
    lead = (8,) if population is None else (2, 8)
    task = torch.arange(8).remainder(2) if population is None else torch.arange(2).view(2, 1)
    observation = torch.randn(*lead, 3, generator=torch.Generator().manual_seed(2))
    return TensorDict({"observation": observation, "task": task.expand(lead).clone()}, lead)


def outcome(pwm: PWM, updates: int = 1) -> dict[str, Tensor]:
    """Metrics, last gradients and parameters after some updates, by name."""
    metrics: dict[str, Tensor] = {}
    for _ in range(updates):
        metrics = pwm.update(starts(pwm.population))
    results = {f"metric {name}": value for name, value in metrics.items()}
    for part in ("actor", "critic", "target"):
        for name, parameter in getattr(pwm, part).named_parameters():
            results[f"{part}.{name}"] = parameter.detach()
            if parameter.grad is not None:
                results[f"gradient of {part}.{name}"] = parameter.grad
    return results


def difference(actual: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm."""
    return float((actual - expected).norm() / expected.norm().clamp_min(1e-6))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
@pytest.mark.parametrize(
    ("execution", "population", "tolerance"),
    [
        (Execution(check_every=2), None, 1e-6),
        (Execution(check_every=2), 2, 1e-6),
        (Execution(cuda_graphs=True), None, 1e-6),
        (Execution(cuda_graphs=True), 2, 1e-6),
        (Execution(precision="tf32"), None, 0.0),  # of which a CPU has nothing
        (Execution(precision="tf32"), 2, 0.0),
        (Execution(precision="bf16"), None, 0.05),
        (Execution(precision="bf16"), 2, 0.05),
        pytest.param(Execution(compile=True), 2, 1e-5, marks=pytest.mark.slow),
        pytest.param(Execution(compile=True, precision="bf16"), None, 0.05, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_every_variant_is_the_eager_update(
    monkeypatch, execution: Execution, population: int | None, tolerance: float
) -> None:
    # Without a GPU a captured pass is the pass itself, behind the same door.
    monkeypatch.setattr(Execution, "on", lambda self, device: self)
    monkeypatch.setattr("pwm_sdk.algorithms.execution.CudaGraphModule", lambda function: function)
    expected = outcome(assemble(population))
    actual = outcome(assemble(population, execution))
    assert set(actual) == set(expected)
    wrong = {name: difference(actual[name], expected[name]) for name in expected}

    assert {name: error for name, error in wrong.items() if not error <= tolerance} == {}


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


class NoWaiting(TorchDispatchMode):
    """Whatever would make the host wait for the device is an error."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name
        if name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::_unique2"):
            raise RuntimeError(f"{name} waits for the device")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("config", [CONFIG, PWMConfig.published(horizon=3)], ids=["ours", "theirs"])
def test_an_update_does_not_wait_for_its_device(monkeypatch, config: PWMConfig) -> None:
    def waits(tensor: Tensor, *_) -> None:
        raise RuntimeError("waits for the device")

    for name in ("tolist", "cpu", "numpy"):
        monkeypatch.setattr(Tensor, name, waits)
    pwm = assemble(2, Execution(check_every=3), config)
    batch = starts(2)
    with NoWaiting():
        for _ in range(2):
            metrics = pwm.update(batch)
        with pytest.raises(RuntimeError, match="waits for the device"):
            pwm.update(batch)  # the third reads
        with pytest.raises(RuntimeError, match="waits for the device"):
            float(metrics["value_loss"])


def test_nothing_is_read_inside_of_a_graph_even_if_every_update_is(monkeypatch) -> None:
    def captured(function):
        def run(*arguments):
            with NoWaiting():
                return function(*arguments)

        return run

    monkeypatch.setattr(Execution, "on", lambda self, device: self)
    monkeypatch.setattr("pwm_sdk.algorithms.execution.CudaGraphModule", captured)
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
    monkeypatch.setattr(Execution, "on", lambda self, device: self)
    monkeypatch.setattr("pwm_sdk.algorithms.execution.CudaGraphModule", lambda function: function)
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
        patch.setattr(Execution, "on", lambda self, device: self)
        patch.setattr("pwm_sdk.algorithms.execution.CudaGraphModule", lambda function: function)
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
    monkeypatch.setattr(
        "pwm_sdk.algorithms.execution.CudaGraphModule", lambda f: made.append(f) or f
    )
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
