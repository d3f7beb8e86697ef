"""A folder of tensors is replaced as a whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pwm_sdk.data.store import read_folder, write_folder

ABOUT = {"format": "test", "version": 2}


def write(path: Path, number: float) -> None:
    write_folder(path, {"x": torch.tensor([number])}, ABOUT)


def read(path: Path) -> float:
    return read_folder(path, format="test", version=2)[0]["x"].item()


def test_round_trip_of_types_and_empty_tensors(tmp_path):
    tensors = {
        "float": torch.tensor([1.0, torch.nan]),
        "bool": torch.tensor([[True], [False]]),
        "empty": torch.empty(0, 3, dtype=torch.int64),
        "strided": torch.arange(6).reshape(2, 3).T,
    }
    write_folder(tmp_path / "deep" / "folder", tensors, {**ABOUT, "rows": 2})
    found, about = read_folder(tmp_path / "deep" / "folder", format="test", version=3)
    assert about["rows"] == 2
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, equal_nan=True)


def test_writing_again_replaces_and_leaves_no_old_files(tmp_path):
    write(tmp_path, 1.0)
    write(tmp_path, 2.0)
    assert read(tmp_path) == 2.0
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["manifest.json", "tensors-2.safetensors"]


@pytest.mark.parametrize("crash_at", [1, 2])
def test_a_crash_before_the_manifest_moves_leaves_the_old_state(tmp_path, monkeypatch, crash_at):
    write(tmp_path, 1.0)
    real, moves = Path.replace, []

    def crash(self, target):
        moves.append(target)
        if len(moves) == crash_at:
            raise OSError("power cut")
        return real(self, target)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="power cut"):
        patch.setattr(Path, "replace", crash)
        write(tmp_path, 2.0)
    assert read(tmp_path) == 1.0
    write(tmp_path, 3.0)
    assert read(tmp_path) == 3.0
    assert len(list(tmp_path.iterdir())) == 2


def test_foreign_newer_and_missing_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path must be a folder with a manifest\.json"):
        read(tmp_path)
    write(tmp_path, 1.0)
    with pytest.raises(
        ValueError, match="path must hold 'test' version <= 1, got 'test' version 2"
    ):
        read_folder(tmp_path, format="test", version=1)
    with pytest.raises(ValueError, match="got 'test' version 2"):
        read_folder(tmp_path, format="other", version=2)


def test_the_manifest_cannot_point_outside_the_folder(tmp_path):
    write(tmp_path / "inside", 1.0)
    manifest = tmp_path / "inside" / "manifest.json"
    about = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**about, "tensors": "../tensors-1.safetensors"}))
    with pytest.raises(ValueError, match=r"manifest\.json must name a file of tensors, got '\.\./"):
        read(tmp_path / "inside")
