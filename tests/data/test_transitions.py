"""Streams of transitions in TorchRL's layout, cut into episodes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict

from pwm_sdk import EpisodeCutter, ReplayBuffer, make_env

SMALL: dict[str, Any] = {"slice_len": 3, "batch_size": 2}


def stream(observations: list[float], ends: dict[int, str], **more: Any) -> TensorDict:
    """Transitions `[T]` whose observation is a number, its action a tenth and its reward itself.

    The next observation is half a step further, where the step ended, and else the next one.
    """
    seen = torch.tensor(observations, dtype=torch.float32)
    after = torch.cat([seen[1:], seen[-1:] + 1])
    for i in ends:
        after[i] = seen[i] + 0.5
    flag = {
        kind: torch.tensor([[ends.get(i) == kind] for i in range(len(seen))])
        for kind in ("terminated", "truncated")
    }
    done = flag["terminated"] | flag["truncated"]
    following = {"observation": after[:, None], "reward": seen[:, None], **flag, "done": done}
    size = [len(seen)]
    parts = {"observation": seen[:, None], "action": seen[:, None] / 10, **more}
    return TensorDict({**parts, "next": TensorDict(following, size)}, size)


def seen_of(episodes: list[TensorDict]) -> list[list[float]]:
    return [episode["observation"][:, 0].tolist() for episode in episodes]


def test_a_time_limit_is_no_end_where_only_done_and_truncated_are_told() -> None:
    batch = stream([0, 1, 2, 3, 4, 5], {1: "terminated", 4: "truncated"})
    del batch["next", "terminated"]
    ends = [e["terminated"][:, 0].tolist() for e in EpisodeCutter().cut(batch)]
    assert ends == [[False, False, True], [False] * 4]
    del batch["next", "truncated"]
    ends = [e["terminated"][:, 0].tolist() for e in EpisodeCutter().cut(batch)]
    assert ends == [[False, False, True], [False, False, False, True]]


def test_streams_are_cut_where_episodes_end() -> None:
    cutter = EpisodeCutter()
    episodes = cutter.cut(stream([0, 1, 2, 3, 4, 5], {1: "terminated", 4: "truncated"}))
    assert seen_of(episodes) == [[0, 1, 1.5], [2, 3, 4, 4.5]]
    assert episodes[0]["terminated"][:, 0].tolist() == [False, False, True]
    assert not episodes[1]["terminated"].any()
    assert episodes[1]["reward"][1:, 0].tolist() == [2, 3, 4]
    torch.testing.assert_close(episodes[1]["action"][1:, 0], torch.tensor([0.2, 0.3, 0.4]))
    assert seen_of(cutter.rest()) == [[5, 6]]
    assert cutter.rest() == []


def test_what_is_open_goes_on_with_the_next_batch() -> None:
    whole = stream([0, 1, 2, 3, 4, 5, 6], {2: "truncated", 5: "terminated"})
    for size in range(1, 8):
        cutter, found = EpisodeCutter(), []
        for batch in whole.split(size):
            found += cutter.cut(batch)
        assert seen_of(found) == [[0, 1, 2, 2.5], [3, 4, 5, 5.5]], size
        assert seen_of(cutter.rest()) == [[6, 7]]


def test_a_stream_that_goes_on_elsewhere_is_cut() -> None:
    """As when a collector drops a part, or trajectories of a data set follow one another."""
    first, second = stream([0, 1], {}), stream([7, 8], {})
    episodes = [*(cutter := EpisodeCutter()).cut(torch.cat([first, second])), *cutter.rest()]
    assert seen_of(episodes) == [[0, 1, 2], [7, 8, 9]]
    numbered = stream([0, 1, 2, 3], {}, traj_ids=torch.tensor([5, 5, 6, 6]))
    episodes = [*(cutter := EpisodeCutter()).cut(numbered), *cutter.rest()]
    assert seen_of(episodes) == [[0, 1, 2], [2, 3, 4]]


def test_streams_side_by_side_and_their_tasks() -> None:
    rows = [stream([i, i + 1], {1: "truncated"}, task=torch.full((2,), i)) for i in (3, 5)]
    both = torch.stack(rows)
    cutter = EpisodeCutter()
    episodes = cutter.cut(both)
    assert seen_of(episodes) == [[3, 4, 4.5], [5, 6, 6.5]]
    assert [int(e["task"][0]) for e in episodes] == [3, 5]
    with pytest.raises(ValueError, match="batch must hold 2 streams, got 1"):
        cutter.cut(rows[0])
    assert int(EpisodeCutter(task=9).cut(rows[0])[0]["task"][0]) == 9


def test_actions_are_scaled_from_their_bounds() -> None:
    episodes = EpisodeCutter(bounds=(0.0, 0.4)).cut(stream([0, 2, 4], {2: "truncated"}))
    torch.testing.assert_close(episodes[0]["action"][1:, 0], torch.tensor([-1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="bounds must be finite and low below high"):
        EpisodeCutter(bounds=(1.0, 1.0))
    with pytest.raises(ValueError, match=r"bounds must be 2 values, got 2\.0"):
        EpisodeCutter(bounds=2.0)


def test_what_a_batch_lacks_is_named() -> None:
    whole = stream([0, 1], {})
    for key in ("observation", "action", ("next", "observation"), ("next", "reward")):
        name = key if isinstance(key, str) else r"\('next', '" + key[1]
        with pytest.raises(ValueError, match=f"batch must hold {name}"):
            EpisodeCutter().cut(whole.exclude(key))
    with pytest.raises(ValueError, match="batch must hold done or terminated under next"):
        EpisodeCutter().cut(whole.exclude(("next", "done"), ("next", "terminated")))
    with pytest.raises(ValueError, match=r"batch must have batch size \[T\] or \[N, T\]"):
        EpisodeCutter().cut(whole.reshape(1, 1, 2))


def test_a_replay_of_what_a_collector_gathered() -> None:
    """Equal, episode by episode, to what the environment itself shows under the same actions."""
    env = make_env("cartpole-balance", seed=0)
    torch.manual_seed(0)
    batch = env.rollout(30)
    replay = ReplayBuffer.from_transitions(batch, **SMALL)
    (episode,) = replay.episodes()
    assert len(episode) == 31
    torch.testing.assert_close(episode["observation"][:30], batch["observation"])
    torch.testing.assert_close(episode["reward"][1:], batch["next", "reward"])
    window = replay.sample()
    assert window["observation"].shape == (2, 3, env.observation_spec["observation"].shape[0])


@pytest.mark.filterwarnings("ignore:.*WeightUpdaterBase:DeprecationWarning")  # its own import's
def test_a_collector_of_two_environments_fills_a_replay() -> None:
    """Batches `[N, T]` that cut across episodes come out as the streams were."""
    from torchrl.collectors import Collector
    from torchrl.envs import SerialEnv, StepCounter, TransformedEnv

    def made(seed: int) -> Any:
        return TransformedEnv(make_env("cartpole-balance", seed=seed), StepCounter(25))

    env = SerialEnv(2, [lambda: made(0), lambda: made(1)])
    collector = Collector(env, None, frames_per_batch=20, total_frames=160)
    replay, cutter, seen = ReplayBuffer(1000, 5, 4, seed=0), EpisodeCutter(), []
    for batch in collector:
        assert batch.shape == (2, 10)
        replay.extend(cutter.cut(batch))
        seen.append(batch.clone())
    streams: Any = torch.cat(seen, dim=1)
    assert sorted(map(len, replay.episodes())) == [26] * 6  # of 80 steps of each
    assert sorted(map(len, cutter.rest())) == [6, 6]
    for episode in replay.episodes():  # each is 25 steps of one stream, whole
        first = episode["observation"][0]
        stream, place = (streams["observation"] == first).all(-1).nonzero()[0].tolist()
        steps = streams[stream, place : place + 25]
        assert torch.equal(episode["observation"][:25], steps["observation"])
        assert torch.equal(episode["observation"][25], steps["next", "observation"][-1])
        assert torch.equal(episode["action"][1:], steps["action"])
        assert torch.equal(episode["reward"][1:], steps["next", "reward"])
    whole = ReplayBuffer.from_transitions(streams, slice_len=5, batch_size=4)
    assert sorted(map(len, whole.episodes())) == [6, 6] + [26] * 6
    assert replay.sample()["action"].shape == (4, 4, streams["action"].shape[-1])


def test_short_episodes_are_counted_and_ends_are_seen_at_every_step() -> None:
    batch = stream([0, 1, 2, 3, 4], {0: "truncated", 4: "terminated"})
    replay = ReplayBuffer.from_transitions(batch, slice_len=4, batch_size=1)
    assert (replay.left_out, replay.num_episodes()) == (1, 1)
    (episode,) = replay.episodes()
    assert episode["real"].sum() == 5
    assert len(episode) == 7
    with pytest.raises(ValueError, match=r"episodes must have length >= slice_len=9 rows, got"):
        ReplayBuffer.from_transitions(batch[:4], slice_len=9, batch_size=1, task=1)
