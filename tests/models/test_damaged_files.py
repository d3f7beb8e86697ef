"""Networks' files that are damaged: a ValueError that names the file, or the weights they had."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from vectors import path as golden

from pwm_sdk import Critic, FirstOrderActor, PolicyPrior, QEnsemble, WorldModel

MAKERS: dict[type, Callable[[], Any]] = {
    WorldModel: lambda: WorldModel(
        3, 2, num_tasks=2, task_dim=4, latent_dim=8, hidden=(8,), encoder_hidden=(8,), num_bins=5
    ),
    FirstOrderActor: lambda: FirstOrderActor(8, 2, (8,)),
    Critic: lambda: Critic(8, (8,)),
    QEnsemble: lambda: QEnsemble(8, 2, hidden=(8,), num_bins=5),
    PolicyPrior: lambda: PolicyPrior(8, 2, hidden=(8,)),
}
FOREIGN = [
    (WorldModel, "g7_tdmpc2_ckpt_new.pt"),
    (WorldModel, "g7_tdmpc2_ckpt_old.pt"),
    (WorldModel, "g7_pwm_ckpt_pickled.pt"),
    (FirstOrderActor, "g7_pwm_ckpt_plain.pt"),
]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Flip, cut, insert, repeat or overwrite, once."""
    place, kind = rng.randrange(len(data)), rng.randrange(6)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + rng.randbytes(rng.randrange(1, 9)) + data[place:]
    if kind == 2:
        return data[:place] + data[place + rng.randrange(1, 64) :]
    if kind == 3:
        return data[:place] + b"\0" * 16 + data[place + 16 :]
    flipped = bytearray(data)
    early = place % min(len(data), 1200) if kind == 4 else place  # headers hold most that breaks
    flipped[early] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def same(one: Any, other: Any) -> bool:
    """Compare settings and weights."""
    a, b = one.state_dict(), other.state_dict()
    return one.settings == other.settings and all(torch.equal(a[k], b[k]) for k in a | b)


@pytest.mark.parametrize("kind", MAKERS, ids=lambda kind: kind.__name__)
def test_a_mutated_file_is_refused_or_loads_as_it_was(tmp_path: Path, kind: type) -> None:
    path, rng = tmp_path / "network.safetensors", random.Random(0)
    network = MAKERS[kind]()
    network.save(path)
    whole, refused = path.read_bytes(), 0
    assert same(kind.from_checkpoint(path), network)
    for number in range(150):
        path.write_bytes(mutate(whole, rng))
        try:
            assert same(kind.from_checkpoint(path), network), number
        except ValueError as error:
            assert "network.safetensors" in str(error), number
            assert "weights_only" not in str(error), number
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(("kind", "name"), FOREIGN)
def test_a_mutated_foreign_file_is_refused_or_loads(tmp_path: Path, kind: type, name: str) -> None:
    path, rng, whole = tmp_path / "foreign.pt", random.Random(1), golden(name).read_bytes()
    for number in range(60):
        path.write_bytes(mutate(whole, rng))
        try:
            kind.from_checkpoint(path)
        except ValueError as error:
            assert "foreign.pt" in str(error), number
            assert "weights_only" not in str(error), number


def rewrite(path: Path, about: dict[str, str], change: dict[str, Any] | None = None) -> None:
    """Write a network's file anew, without the digest."""
    with safe_open(path, "pt") as file:
        held = file.metadata()
    held.pop("digest")
    save_file(load_file(path) | (change or {}), path, held | about)


@pytest.mark.parametrize("kind", MAKERS, ids=lambda kind: kind.__name__)
def test_wrong_versions_weights_and_sizes_are_named(tmp_path: Path, kind: type) -> None:
    path = tmp_path / "network.safetensors"
    network = MAKERS[kind]()
    name = next(k for k, v in network.state_dict().items() if v.is_floating_point())
    value = network.state_dict()[name]

    def refused(match: str, about: dict[str, str], change: Any = None) -> None:
        network.save(path)
        rewrite(path, about, change)
        with pytest.raises(ValueError, match=match) as found:
            kind.from_checkpoint(path)
        assert "network.safetensors" in str(found.value)

    network.save(path)
    rewrite(path, {})
    assert same(kind.from_checkpoint(path), network)  # a file from before there were digests
    for version in ("-3", "0", "3", "one", "", "1.0", "9" * 5000):
        refused("version must", {"version": version})
    wide = json.dumps({**network.settings, "hidden": [100_000, 100_000]})
    refused("weights must fit|settings must", {"settings": wide})
    refused("settings must", {"settings": json.dumps({**network.settings, "hidden": [8] * 10**5})})
    refused("settings must", {"settings": json.dumps({**network.settings, "other": 1})})
    refused("settings must", {"settings": json.dumps({**network.settings, "hidden": None})})
    refused("settings must", {"settings": "{"})
    refused("settings must", {"settings": "[]"})
    refused("settings must", {"settings": "[" * 100_000})
    refused("weights must be finite", {}, {name: value * torch.nan})
    refused("weights must fit", {}, {name: value.long()})
    refused("weights must fit", {}, {name: value[None]})
    refused("weights must fit", {}, {"unknown": value})
    with pytest.raises(ValueError, match="must name a file, got the folder"):
        kind.from_checkpoint(tmp_path)
    with pytest.raises(ValueError, match="path must"):
        kind.from_checkpoint("")


@pytest.mark.parametrize("kind", MAKERS, ids=lambda kind: kind.__name__)
def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, kind: type) -> None:
    network = MAKERS[kind]()
    network.save(tmp_path / "network.safetensors")
    before = (tmp_path / "network.safetensors").read_bytes()
    next(network.parameters()).data[..., 0] = torch.inf
    with pytest.raises(ValueError, match="weights must be finite"):
        network.save(tmp_path / "network.safetensors")
    assert (tmp_path / "network.safetensors").read_bytes() == before


def test_narrow_floats_are_named(tmp_path: Path) -> None:
    MAKERS[Critic]().save(tmp_path / "a")
    with safe_open(tmp_path / "a", "pt") as file:
        about = {k: v for k, v in file.metadata().items() if k != "digest"}
    narrow = {k: v.to(torch.float8_e4m3fn) for k, v in load_file(tmp_path / "a").items()}
    save_file(narrow, tmp_path / "a", about)
    with pytest.raises(
        ValueError, match=r"weights must be of .*, got torch\.float8_e4m3fn in .*a$"
    ):
        Critic.from_checkpoint(tmp_path / "a")


def test_equal_weights_are_equal_files(tmp_path: Path) -> None:
    network = MAKERS[WorldModel]()
    for number in range(6):
        network.save(tmp_path / str(number))
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
