"""Policies as files: opened by another process, whole, or refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from agents import make
from small_policies import NAMES, O, Own, policy, tasks_of
from torch import nn

from pwm_sdk import FirstOrderActor, ObservationPolicy
from pwm_sdk.checkpoints.reading import read_tensors
from pwm_sdk.checkpoints.writing import write_tensors
from pwm_sdk.policies.networks import Normalized


@pytest.mark.parametrize("name", NAMES)
def test_what_is_opened_acts_the_same(name: str, tmp_path) -> None:
    acting, seen, task = policy(name), torch.randn(4, O), tasks_of(name, 4)
    path, expected = tmp_path / "policy.safetensors", acting.act(seen, task)
    acting.save(path)
    opened = ObservationPolicy.load(path, actor=Own() if name == "own" else None)
    assert torch.equal(opened.act(seen, task), expected)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # one file
    opened.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_populations_keep_their_tasks(tmp_path) -> None:
    actor = FirstOrderActor(8, 2, (4,), population=2, action_dims=[1, 2])
    team = ObservationPolicy(actor, model=policy("tasks").model, tasks=[1, 0], high=[2.0, 3.0])
    team.save(tmp_path / "team.safetensors")
    opened, seen = ObservationPolicy.load(tmp_path / "team.safetensors"), torch.randn(2, O)
    assert opened.tasks == [1, 0]
    assert torch.equal(opened.act(seen), team.act(seen))
    assert torch.equal(opened.member(1).act(seen[1]), team.member(1).act(seen[1]))


def test_another_process_needs_no_agent(tmp_path) -> None:
    acting = policy("one task")
    acting.save(tmp_path / "policy.safetensors")
    program = (
        "import sys, numpy as np; from pwm_sdk import ObservationPolicy;"
        "acting = ObservationPolicy.load(sys.argv[1]);"
        "print(acting.act(np.ones(3, np.float32)).tolist())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "policy.safetensors")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    expected = acting.act(np.ones(3, np.float32))
    np.testing.assert_allclose(json.loads(said), expected, rtol=1e-6)


def test_what_is_more_than_its_networks_is_not_saved(tmp_path) -> None:
    path = tmp_path / "policy.safetensors"
    cases = {
        "plans": make("TDMPC2").policy(),
        "remembers": make("DreamerV3").policy(),
        "explores": make("PWM").explorer(),
    }
    for word, acting in cases.items():
        with pytest.raises(ValueError, match=f"networks alone to be saved, got one that {word}"):
            acting.save(path)
    with pytest.raises(ValueError, match="actor must be a module to be saved, got method"):
        make("SAC").explorer().save(path)
    broken = policy("layers")
    nn.init.constant_(broken.actor[0].bias, float("nan"))
    with pytest.raises(ValueError, match=r"weights must be finite, got others in \['actor.0.bias'"):
        broken.save(path)
    assert not list(tmp_path.iterdir())


def test_own_modules_must_be_handed_over_and_fit(tmp_path) -> None:
    path = tmp_path / "policy.safetensors"
    policy("own").save(path)
    with pytest.raises(ValueError, match=r"actor must be given, as .* holds weights of Own alone"):
        ObservationPolicy.load(path)
    with pytest.raises(ValueError, match="weights must fit the network, got missing or unknown"):
        ObservationPolicy.load(path, actor=nn.Linear(O, 2))
    with pytest.raises(ValueError, match=r"model must be None, as .* holds none, got one"):
        ObservationPolicy.load(path, actor=Own(), model=policy("latents").model)
    # a part that a file describes may be handed over, too
    policy("latents").save(path)
    given = ObservationPolicy.load(path, actor=policy("latents").actor)
    assert torch.equal(given.act(torch.ones(O)), policy("latents").act(torch.ones(O)))


def test_layers_that_stand_twice_and_layers_with_names_come_back(tmp_path) -> None:
    path, seen, act = tmp_path / "policy.safetensors", torch.randn(3, O), nn.Tanh()
    named = OrderedDict(inside=nn.Linear(O, 4), act=act, out=nn.Linear(4, 2))
    twice = nn.Linear(O, O)
    for net in (
        nn.Sequential(nn.Linear(O, 4), act, nn.Linear(4, 2), act),
        nn.Sequential(twice, act, twice, act, nn.Linear(O, 2)),
        nn.Sequential(named),
    ):
        saved = ObservationPolicy(net)
        saved.save(path)
        again = ObservationPolicy.load(path)
        assert repr(again.actor) == repr(net)
        assert torch.equal(again.act(seen), saved.act(seen))


def test_files_that_left_out_a_repeated_layer_are_refused(tmp_path) -> None:
    path, act = tmp_path / "policy.safetensors", nn.Tanh()
    ObservationPolicy(nn.Sequential(nn.Linear(O, 4), act, nn.Linear(4, 2), act)).save(path)
    actor = json.loads(read_tensors(path)[1]["policy"])["actor"]
    del actor["parts"]["1"]
    changed(path, actor=actor)
    with pytest.raises(ValueError, match=r"numbers of parts must be 0 to 2, got \['0', '2', '3'\]"):
        ObservationPolicy.load(path)


class Doubled:
    """Moments that are no module."""

    def normalize(self, values: torch.Tensor) -> torch.Tensor:
        return 2.0 * values


def test_moments_that_are_no_module_must_be_handed_over(tmp_path) -> None:
    path, model = tmp_path / "policy.safetensors", Normalized(Doubled())
    saved = ObservationPolicy(nn.Linear(O, 2), model=model)
    saved.save(path)
    with pytest.raises(ValueError, match=r"model must be given, as .* of Normalized alone"):
        ObservationPolicy.load(path)
    opened = ObservationPolicy.load(path, model=model)
    assert torch.equal(opened.act(torch.ones(O)), saved.act(torch.ones(O)))


def changed(path, **about) -> None:
    """Write the file anew with another description."""
    tensors, metadata = read_tensors(path)
    said = {**json.loads(metadata["policy"]), **about}
    metadata = {k: v for k, v in metadata.items() if k != "digest"}
    write_tensors(path, tensors, {**metadata, "policy": json.dumps(said)})


@pytest.mark.parametrize(
    ("actor", "message"),
    [
        ({"kind": "os.system", "settings": {}, "parts": {}}, "actor must be undamaged"),
        ({"kind": "Linear", "settings": {"in_features": 10**9, "out_features": 10**9}, "parts": {}},
         "weights must fit the network|actor must be undamaged"),
        ({"kind": "Sequential", "settings": {}, "parts": {}}, "weights must fit the network"),
        ([], "actor must be undamaged"),
        ({}, "actor must be undamaged"),
        (None, "path must hold an actor"),
    ],
)  # fmt: skip
def test_files_that_ask_for_something_else_are_refused(actor, message: str, tmp_path) -> None:
    path = tmp_path / "policy.safetensors"
    policy("layers").save(path)
    changed(path, actor=actor)
    with pytest.raises(ValueError, match=message):
        ObservationPolicy.load(path)


def test_other_files_are_named(tmp_path) -> None:
    path = tmp_path / "actor.safetensors"
    FirstOrderActor(O, 2, (4,)).save(path)
    with pytest.raises(ValueError, match=r"path must hold a pwm_sdk\.ObservationPolicy, got"):
        ObservationPolicy.load(path)
    with pytest.raises(FileNotFoundError):
        ObservationPolicy.load(tmp_path / "none.safetensors")
    policy("layers").save(path)
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, {**metadata, "version": "3"})
    with pytest.raises(ValueError, match="version must be at most 2"):
        ObservationPolicy.load(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"actor\.safetensors"):
        ObservationPolicy.load(path)


def test_files_from_before_the_defaults_changed_mean_what_they_meant(tmp_path) -> None:
    path, seen = tmp_path / "policy.safetensors", torch.randn(3, 8)
    actor = FirstOrderActor.published(8, 2, (4,), noise="post_tanh")
    ObservationPolicy(actor).save(path)
    tensors, metadata = read_tensors(path)
    about = json.loads(metadata["policy"])
    settings = {"latent_dim": 8, "action_dim": 2, "hidden": [4], "noise": "after", "norm": "after"}
    about["actor"]["settings"] = settings
    write_tensors(path, tensors, {**metadata, "version": "1", "policy": json.dumps(about)})
    loaded = ObservationPolicy.load(path).actor
    assert loaded.settings == actor.settings
    assert torch.equal(loaded(seen), actor(seen))
