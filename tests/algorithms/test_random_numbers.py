"""Algorithms draw from a generator of their own; what they draw goes on where it was saved."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from agents import DRAWING, EVERY, batches_of, make, use
from anywhere import transitions
from torch import Tensor

from pwm_sdk import fit
from pwm_sdk.generators import (
    drawing_from,
    following,
    own_generator,
    random_state,
    restore_generator,
    set_random_state,
)


class Elsewhere(torch.Generator):
    """A generator that says that it is on another device."""

    device: Any = torch.device("cuda:0")


def global_state() -> Tensor:
    return torch.get_rng_state()


@pytest.mark.parametrize("name", EVERY)
def test_nobody_draws_from_the_global_stream(name: str) -> None:
    agent, before = make(name), global_state()
    use(agent)
    assert torch.equal(global_state(), before)
    torch.manual_seed(9)  # nor can a reseeded global stream change what is drawn
    agent = make(name)
    other = copy.deepcopy(agent.state_dict())
    first = use(agent)
    torch.manual_seed(10)
    agent.load_state_dict(other)
    second = use(agent)
    assert all(torch.equal(first[key], second[key]) for key in first if key != "episode_return")


@pytest.mark.parametrize("name", DRAWING)
def test_the_same_generator_draws_the_same_and_another_something_else(name: str) -> None:
    def drawn(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(0)
        options = {} if name == "Population" else {"generator": torch.Generator().manual_seed(seed)}
        agent = make(name, **options)
        assert name == "Population" or agent.generator is options["generator"]
        return use(agent)

    first, again = drawn(1), drawn(1)
    assert all(torch.equal(first[key], again[key]) for key in first if key != "episode_return")
    if name != "Population":
        other = drawn(2)
        assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", [name for name in DRAWING if name != "Population"])
def test_a_generator_on_another_device_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match="generator must be on the networks' device cpu, got one"):
        make(name, generator=Elsewhere())


def test_torchs_seed_decides_on_a_generator_of_ones_own() -> None:
    torch.manual_seed(3)
    weights = torch.rand(4)
    first, second = own_generator("cpu"), own_generator("cpu")
    drawn = torch.rand(4, generator=first)
    assert not torch.equal(drawn, torch.rand(4, generator=second))
    assert not torch.equal(drawn, weights)  # not the same stream twice
    torch.manual_seed(3)
    torch.rand(4)
    assert torch.equal(torch.rand(4, generator=own_generator("cpu")), drawn)
    assert own_generator("meta").device.type == "cpu"  # which has none
    assert following(first, "cpu") is first


def test_what_takes_no_generator_draws_from_it_all_the_same() -> None:
    own, twin = (torch.Generator().manual_seed(1) for _ in range(2))
    before = global_state()
    with drawing_from(own):
        first = torch.nn.functional.dropout(torch.ones(100))
        with pytest.raises(KeyError), drawing_from(torch.Generator()):
            raise KeyError
        second = torch.rand(3)
    assert torch.equal(global_state(), before)
    expected = torch.empty(100).bernoulli_(0.5, generator=twin) * 2.0
    assert torch.equal(first, expected)
    assert torch.equal(second, torch.rand(3, generator=twin))
    with drawing_from(torch.default_generator):  # the global stream itself goes on
        torch.rand(1)
    assert not torch.equal(global_state(), before)


def test_a_state_of_another_kind_of_device_goes_on_with_what_follows_from_it() -> None:
    short = torch.arange(16, dtype=torch.uint8)  # as a GPU's generator has
    first, second = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    for generator in (first, second):
        restore_generator(generator, short)
    drawn = torch.rand(3, generator=first)
    assert torch.equal(drawn, torch.rand(3, generator=second))
    state = first.get_state()
    restore_generator(first, None)  # of an older file
    assert torch.equal(first.get_state(), state)


class TwoGPUs:
    """A stand-in for `torch.cuda` whose generators hold one number each."""

    def __init__(self, count: int = 2, initialized: bool = True) -> None:
        self.numbers, self.initialized = list(range(count)), initialized

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("is_initialized", "is_available", "device_count"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "get_rng_state_all", self.get)
        monkeypatch.setattr(torch.cuda, "set_rng_state", self.set)

    def is_initialized(self) -> bool:
        return self.initialized

    def is_available(self) -> bool:
        return bool(self.numbers)

    def device_count(self) -> int:
        return len(self.numbers)

    def get(self) -> list[Tensor]:
        return [torch.tensor([n], dtype=torch.uint8) for n in self.numbers]

    def set(self, state: Tensor, device: int) -> None:
        self.numbers[device] = int(state)


def test_the_states_of_all_gpus_are_kept(monkeypatch, tmp_path) -> None:
    gpus = TwoGPUs()
    gpus.install(monkeypatch)
    torch.save(random_state(), tmp_path / "state.pt")
    torch.rand(1)
    drawn, gpus.numbers = torch.rand(1), [7, 7]
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    set_random_state(state)
    torch.rand(1)
    assert torch.equal(torch.rand(1), drawn)
    assert gpus.numbers == [0, 1]
    fewer = TwoGPUs(count=1)
    fewer.install(monkeypatch)
    fewer.numbers = [9]
    set_random_state(state)
    assert fewer.numbers == [0]
    TwoGPUs(initialized=False).install(monkeypatch)
    assert random_state()["cuda"] == []  # no GPU is woken up
    set_random_state(torch.get_rng_state())  # as older files have it


@pytest.mark.parametrize("name", EVERY)
def test_updates_leave_the_global_stream_alone(name: str) -> None:
    agent, before = make(name), global_state()
    fit(agent, batches_of(name), 2)
    assert torch.equal(global_state(), before)


class Drawn:
    """Batches that are drawn: the rows of one, each time in another order."""

    def __init__(self, batch: Any) -> None:
        self.batch, self.generator = batch, torch.Generator().manual_seed(0)

    def sample(self) -> Any:
        return self.batch[torch.randperm(len(self.batch), generator=self.generator)]


@pytest.mark.parametrize("name", EVERY)
def test_an_interrupted_run_is_resumed_to_the_bit(name: str, tmp_path) -> None:
    def run(path: Any = None, cut: int | None = None) -> Any:
        torch.manual_seed(0)  # as a program does that is started again
        agent, batches = make(name), batches_of(name)

        def stop(step: int, _: Any) -> None:
            if step == cut:
                raise KeyboardInterrupt

        drawn = batches if name in ("SHAC", "Population") else Drawn(batches.batch)
        fit(agent, drawn, 4, path=path, save_every=2, hooks=[stop])
        return agent.state_dict()

    whole = run()
    for cut in (2, 3):  # on a write of the file, and between two
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / f"{cut}.pt", cut)
        again = run(tmp_path / f"{cut}.pt")
        assert whole["updates"] == again["updates"] == 4
        torch.testing.assert_close(again, whole, rtol=0.0, atol=0.0, equal_nan=True)


@pytest.mark.parametrize("name", EVERY)
def test_a_killed_run_goes_on_from_its_last_file_to_the_bit(name: str, tmp_path) -> None:
    class KilledError(Exception):
        pass

    def run(path: Any = None, cut: int | None = None) -> Any:
        torch.manual_seed(0)
        agent = make(name)

        def kill(step: int, _: Any) -> None:
            if step == cut:
                raise KilledError

        fit(agent, batches_of(name), 4, path=path, save_every=2, hooks=[kill])
        return agent.state_dict()

    whole = run()
    with pytest.raises(KilledError):
        run(tmp_path / "state.pt", cut=3)
    again = run(tmp_path / "state.pt")
    torch.testing.assert_close(again, whole, rtol=0.0, atol=0.0, equal_nan=True)


def test_the_replay_of_sac_has_numbers_of_its_own() -> None:
    agent = make("SAC")
    kept, before = agent.make_replay(), global_state()
    kept.extend(transitions("cpu", 8))
    kept.sample()
    assert torch.equal(global_state(), before)
