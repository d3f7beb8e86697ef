"""Batches drawn ahead: same order, same states, errors that surface, threads that end."""

from __future__ import annotations

import gc
import threading

import pytest
import torch
from tensordict import TensorDict

from pwm_sdk.data.prefetch import Prefetcher
from pwm_sdk.data.replay import ReplayBuffer, make_episode


def replay(seed: int = 0) -> ReplayBuffer:
    made = ReplayBuffer(100, 3, 4, seed=seed)
    for first in (0, 20):
        count = first + torch.arange(10.0)[:, None]
        made.add(make_episode(count, count[1:] / 100, count[1:], 0))
    return made


def threads() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


class Failing:
    """Draws two batches and fails."""

    def __init__(self) -> None:
        self.generator, self.drawn = torch.Generator(), 0

    def sample(self) -> TensorDict:
        self.drawn += 1
        if self.drawn > 2:
            raise OSError("disk is gone")
        return TensorDict({"observation": torch.full((1,), float(self.drawn))}, [1])


class Stub:
    """A batch that notes what is asked of it and by which thread; no GPU takes part."""

    def __init__(self, device: str = "cpu") -> None:
        self.device, self.asked = torch.device(device), []

    def pin_memory(self) -> Stub:
        self.asked.append(("pin_memory", threading.current_thread().name))
        return self

    def to(self, device: torch.device, non_blocking: bool = False) -> Stub:
        name = threading.current_thread().name
        self.asked.append((f"to {device.type}, {non_blocking=}", name))
        return self


class Stubs:
    """A source of one batch, over and over."""

    def __init__(self, batch: Stub) -> None:
        self.generator, self.batch = torch.Generator(), batch

    def sample(self) -> Stub:
        return self.batch


@pytest.mark.parametrize(("device", "at"), [("cuda", "cpu"), ("cuda", "cuda"), ("cpu", "cpu")])
def test_for_a_gpu_batches_are_pinned_and_copied_without_waiting(device: str, at: str) -> None:
    """The calls on a stub, all in the caller's thread; no GPU has shown that copies overlap."""
    batch, main = Stub(at), threading.current_thread().name
    ahead = Prefetcher(Stubs(batch), depth=1)
    ahead.device = torch.device(device)  # which a `Prefetcher` of its own asks torch for
    ahead.sample()
    ahead.close()
    pinned = [("pin_memory", main)] if (device, at) == ("cuda", "cpu") else []
    assert batch.asked == [*pinned, (f"to {device}, non_blocking=True", main)]


class OnDevice(Stubs):
    """A source whose batches come out on a device, with a note of the thread that samples."""

    def __init__(self, device: str) -> None:
        super().__init__(Stub(device))
        self.device, self.sampled = torch.device(device), []

    def sample(self) -> Stub:
        self.sampled.append(threading.current_thread().name)
        return self.batch


@pytest.mark.parametrize("at", ["cuda", "meta"])
@pytest.mark.parametrize("depth", [None, 3])
def test_a_source_on_a_device_is_sampled_by_the_caller(depth: int | None, at: str) -> None:
    source, main = OnDevice(at), threading.current_thread().name
    with Prefetcher(source, depth=depth) as ahead:
        ahead.device = torch.device("cuda")
        for _ in range(3):
            ahead.sample()
        assert (ahead.depth, threads()) == (0, 0)
    assert source.sampled == [main] * 3
    assert {name for _, name in source.batch.asked} == {main}


def test_what_leaves_a_device_is_waited_for() -> None:
    source = OnDevice("cuda")
    Prefetcher(source).sample()
    assert source.batch.asked == [("to cpu, non_blocking=False", threading.current_thread().name)]


def test_a_replay_on_the_disk_with_batches_on_a_device_has_no_thread(tmp_path) -> None:
    """`ReplayBuffer.from_dataset(path, device=...)` brings its batches there inside `sample`."""
    source = replay()
    source.device = torch.device("meta")
    assert Prefetcher(source, depth=2).depth == 0
    assert Prefetcher(source.starts(0, 2, 0), depth=2).depth == 0


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_the_order_is_that_of_the_source(depth: int) -> None:
    plain = replay()
    with Prefetcher(replay(), depth=depth) as ahead:
        for _ in range(8):
            batch, expected = ahead.sample(), plain.sample()
            assert all(batch[name].equal(value) for name, value in expected.items())
        assert threads() == (depth > 0)
    assert threads() == 0


def test_on_a_cpu_batches_pass_through_without_a_thread() -> None:
    ahead = Prefetcher(replay())
    assert ahead.sample()["observation"].equal(replay().sample()["observation"])
    assert (ahead.depth, threads()) == (0, 0)


def test_a_state_is_that_of_the_last_batch_handed_out() -> None:
    with Prefetcher(replay(), depth=3) as ahead, Prefetcher(replay(9), depth=2) as other:
        other.sample()
        states, batches = [], []
        for _ in range(5):
            states.append(ahead.generator.get_state())
            batches.append(ahead.sample()["observation"])
        for place in (3, 0):
            other.generator.set_state(states[place])
            for expected in batches[place:]:
                assert other.sample()["observation"].equal(expected)


def test_closing_gives_back_what_was_drawn_ahead() -> None:
    source, plain = replay(), replay()
    ahead = Prefetcher(source, depth=3)
    first = [ahead.sample()["observation"] for _ in range(2)]
    ahead.close()
    ahead.close()
    drawn = [*first, source.sample()["observation"], ahead.sample()["observation"]]
    for batch in drawn:
        assert batch.equal(plain.sample()["observation"])
    ahead.close()


def test_policies_that_stay_get_their_own_batches() -> None:
    plain, source = (replay().starts([0, 0, 0], 5, [1, 2, 3]) for _ in range(2))
    with Prefetcher(source, depth=2) as ahead:
        assert ahead.sample()["observation"].equal(plain.sample()["observation"])
        ahead.keep([2, 0])
        expected = plain.sample()["observation"][[2, 0]]
        assert ahead.sample()["observation"].equal(expected)


def test_errors_surface_at_the_batch_that_has_them() -> None:
    ahead = Prefetcher(Failing(), depth=3)
    assert [float(ahead.sample()["observation"]) for _ in range(2)] == [1.0, 2.0]
    with pytest.raises(OSError, match="disk is gone"):
        ahead.sample()
    assert threads() == 0


def test_a_forgotten_thread_ends() -> None:
    ahead = Prefetcher(replay(), depth=2)
    ahead.sample()
    assert threads() == 1
    del ahead
    gc.collect()
    assert threads() == 0


def test_depth_is_checked() -> None:
    with pytest.raises(ValueError, match="depth must be at least 0, got -1"):
        Prefetcher(replay(), depth=-1)
