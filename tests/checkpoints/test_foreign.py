"""Foreign files open as plain tensors; what would run code, or is not whole, is refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from vectors import path as golden

from pwm_sdk.checkpoints.foreign import is_pickled, open_foreign


class Bomb:
    """Would write a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("index", [0, 1])
def test_a_pickled_chunk_opens_as_its_plain_copy(index: int) -> None:
    found = open_foreign(golden(f"g7_chunk_{index}.pt"))
    plain = torch.load(golden(f"g7_chunk_{index}_plain.pt"), weights_only=True)
    assert found.keys() == plain.keys()
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, equal_nan=True)


def test_statistics_of_pwm_open_as_their_attributes() -> None:
    found = open_foreign(golden("g7_pwm_ckpt_pickled.pt"))
    plain = torch.load(golden("g7_pwm_ckpt_plain.pt"), weights_only=True)
    for name in ("rew_rms", "ret_rms"):
        assert torch.equal(found[name]["mean"], plain[name]["mean"])
        assert torch.equal(found[name]["var"], plain[name]["var"])
        assert found[name]["count"] == plain[name]["count"]
    assert found["obs_rms"] is None


def test_files_of_old_releases_open(tmp_path: Path) -> None:
    torch.save({"x": torch.arange(3)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert open_foreign(tmp_path / "a.pt")["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["archive", "before 1.6", "bare pickle"])
def test_code_is_named_and_does_not_run(tmp_path: Path, kind: str) -> None:
    file, mark = tmp_path / "bomb.pt", tmp_path / "mark"
    contents = {"model": {"weight": torch.zeros(2), "bomb": Bomb(mark)}}
    if kind == "bare pickle":
        file.write_bytes(pickle.dumps(Bomb(mark)))
    else:
        torch.save(contents, file, _use_new_zipfile_serialization=kind == "archive")
    with pytest.raises(ValueError, match=r"bomb\.pt, which would run code of posix\.system"):
        open_foreign(file)
    assert not mark.exists()


def test_a_whole_module_is_code(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(ValueError, match=r"would run code of torch\.nn\.modules\.linear\.Linear"):
        open_foreign(tmp_path / "module.pt")


def test_what_the_program_allows_elsewhere_is_not_allowed_here(tmp_path: Path) -> None:
    torch.save({"x": Path("somewhere")}, tmp_path / "a.pt")
    with torch.serialization.safe_globals([type(Path())]):
        before = torch.serialization.get_safe_globals()
        with pytest.raises(ValueError, match="would run code of pathlib"):
            open_foreign(tmp_path / "a.pt")
        assert set(torch.serialization.get_safe_globals()) == set(before)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_named(tmp_path: Path, share: float) -> None:
    whole = golden("g7_chunk_0.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"path must be a complete file .* got .*cut\.pt \("):
        open_foreign(tmp_path / "cut.pt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt"):
        open_foreign(tmp_path / "nowhere.pt")


def test_pickled_files_are_told_from_others(tmp_path: Path) -> None:
    assert is_pickled(golden("g7_tdmpc2_ckpt_new.pt"))
    (tmp_path / "other").write_bytes(b"\x80\0\0\0\0\0\0\0{}")  # safetensors, 128 bytes of JSON
    assert not is_pickled(tmp_path / "other")
