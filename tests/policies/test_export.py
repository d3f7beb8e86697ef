"""Exported policies act as they do here, for any number of rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from agents import make
from small_policies import NAMES, A, D, O, Own, model, policy, tasks_of

from pwm_sdk import FirstOrderActor, ObservationPolicy

ROWS = (1, 2, 3, 40)  # of few and of more rows than a layer has outputs


@pytest.mark.parametrize("name", NAMES)
def test_a_program_of_torch_gives_the_same_actions(name: str, tmp_path) -> None:
    acting = policy(name)
    acting.export(tmp_path / "policy.pt2", observation_dim=O if name == "own" else None)
    program = torch.export.load(tmp_path / "policy.pt2").module()
    for rows in ROWS:
        task = tasks_of(name, rows)
        seen = torch.randn(rows, O, dtype=torch.float64 if name == "double" else torch.float32)
        given = (seen,) if task is None else (seen, task)
        torch.testing.assert_close(program(*given), acting.act(seen, task), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_another_runtime_gives_the_same_actions(name: str, tmp_path) -> None:
    pytest.importorskip("onnxruntime")  # of the extra `dev`
    import onnxruntime

    acting = policy(name)
    acting.export(tmp_path / "policy.onnx", observation_dim=O if name == "own" else None)
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    for rows in ROWS:
        task = tasks_of(name, rows)
        seen = np.random.default_rng(0).normal(size=(rows, O))
        seen = seen.astype(np.float64 if name == "double" else np.float32)
        given = {"observation": seen} | ({} if task is None else {"task": task.numpy()})
        (action,) = session.run(["action"], given)
        np.testing.assert_allclose(action, acting.act(seen, task), rtol=1e-4, atol=1e-5)


def test_exporting_leaves_the_policy_as_it_is(tmp_path) -> None:
    acting, seen = policy("prior"), torch.randn(3, O)
    table = acting.model.task_embedding.detach().clone()
    assert acting.actor.training
    acting.export(tmp_path / "policy.pt2")
    assert torch.equal(acting.model.task_embedding, table)  # a look-up would have shortened rows
    assert acting.actor.training and acting.model.task_embedding.requires_grad
    assert acting.act(seen, 0).shape == (3, A)


def test_what_cannot_be_exported_is_named(tmp_path) -> None:
    path = tmp_path / "policy.pt2"
    for word, acting in (
        ("plans", make("TDMPC2").policy()),
        ("remembers", make("DreamerV3").policy()),
        ("explores", make("PWM").explorer()),
    ):
        with pytest.raises(ValueError, match=f"alone to be exported, got one that {word}"):
            acting.export(path)
    team = ObservationPolicy(FirstOrderActor(D, A, (4,), population=2), model=model())
    with pytest.raises(ValueError, match=r"got a population of 2: export its member\(i\)"):
        team.export(path)
    team.member(0).export(path)
    with pytest.raises(ValueError, match=r"path must end in one of \['.onnx', '.pt2'\], got .*txt"):
        team.member(0).export(tmp_path / "policy.txt")
    with pytest.raises(ValueError, match="actor must be a module to be exported, got function"):
        ObservationPolicy(lambda seen: seen).export(path)
    policy("own").export(path)  # its first layer says how wide observations are
    assert isinstance(policy("own").actor, Own)
