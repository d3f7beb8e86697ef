"""Foreign files are opened by several threads at once, and none makes much of a few bytes."""

from __future__ import annotations

import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from vectors import path as golden

from pwm_sdk import WorldModel, from_tdmpc2_chunks
from pwm_sdk.checkpoints.foreign import open_foreign
from pwm_sdk.checkpoints.kinds import kind_of
from pwm_sdk.tasks import MT80


def shared(levels: int) -> Any:
    """Dictionaries of which each leads to the next in two ways."""
    made: Any = {"x": torch.zeros(1)}
    for _ in range(levels):
        made = {"a": made, "b": made}
    return made


def itself(kind: type) -> Any:
    """A container that holds itself."""
    made: Any = kind()
    if isinstance(made, dict):
        made["me"] = made
    else:
        made.append(made)
    return {"model": made}


def deep(kind: type, levels: int = 3000) -> Any:
    """Containers inside containers."""
    made: Any = torch.zeros(1)
    for _ in range(levels):
        made = {"x": made} if kind is dict else kind([made])
    return made


BOMBS = {
    "shared dictionaries": lambda: shared(28),
    "shared lists": lambda: [[1] * 10] and _doubled(28),
    "a dictionary that holds itself": lambda: itself(dict),
    "a list that holds itself": lambda: itself(list),
    "deep dictionaries": lambda: deep(dict),
    "deep lists": lambda: deep(list),
    "a repeated number": lambda: {"obs": torch.zeros(1).expand(10**10)},
    "many repeated numbers": lambda: {str(i): torch.zeros(1).expand(10**6) for i in range(50)},
    "a sparse tensor": lambda: {"model": torch.zeros(3).to_sparse()},
}


def _doubled(levels: int) -> list[Any]:
    made: list[Any] = [1]
    for _ in range(levels):
        made = [made, made]
    return made


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_at_once(tmp_path: Path, name: str, zipped: bool) -> None:
    path = tmp_path / "bomb.pt"
    if name.startswith("deep"):  # pickle itself goes no deeper than Python
        _write_deep(path, b"}X\x01\x00\x00\x00x" if "dict" in name else b"]", "dict" in name)
    else:
        torch.save(BOMBS[name](), path, _use_new_zipfile_serialization=zipped)
    begin = time.perf_counter()
    with pytest.raises(ValueError, match=r"(entries|tensors|path) must .*bomb\.pt"):
        open_foreign(path)
    assert time.perf_counter() - begin < 5.0


def _write_deep(path: Path, inner: bytes, dictionary: bool) -> None:
    """Write a bare pickle of 3000 levels by hand, as an archive of torch."""
    levels = 3000
    text = b"\x80\x02" + inner * levels + b"K\x01" + (b"s" if dictionary else b"a") * levels + b"."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", text)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02X" + b"\0" * (1 << 26))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ValueError, match=r"bomb\.pt .*unpacks to 67108867"):
        open_foreign(path)


def test_a_chunk_of_repeated_numbers_writes_nothing(tmp_path: Path) -> None:
    one = {"obs": 39, "action": 6}
    chunk = {name: torch.zeros(1, 1, size).expand(10**7, 101, size) for name, size in one.items()}
    flat = {name: torch.zeros(1, 1).expand(10**7, 101) for name in ("reward", "task")}
    torch.save(chunk | flat, tmp_path / "chunk_0.pt")
    with pytest.raises(ValueError, match=r"chunk_0\.pt"):
        from_tdmpc2_chunks(tmp_path / "chunk_0.pt", tmp_path / "out", MT80)
    assert not (tmp_path / "out").exists()


def test_tensors_that_share_or_expand_a_little_open(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    contents = {"a": base[:3], "b": [base, (base, torch.Size([2]))], "c": base[:1].expand(1000)}
    torch.save(contents, tmp_path / "a.pt")
    found = open_foreign(tmp_path / "a.pt")
    assert found["b"][1][1] == torch.Size([2])
    assert isinstance(found["b"][1][1], torch.Size)
    assert found["c"].sum() == 0.0


class Mine:
    """A class that the program allows."""


class Others:
    """Another one, allowed while files are open."""


def test_threads_open_files_and_the_program_keeps_its_classes() -> None:
    path, failed = golden("g7_pwm_ckpt_pickled.pt"), []
    before = torch.serialization.get_safe_globals()

    def work() -> None:
        try:
            for _ in range(15):
                open_foreign(path)
        except ValueError as error:
            failed.append(error)

    try:
        torch.serialization.add_safe_globals([Mine])
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        torch.serialization.add_safe_globals([Others])
        for thread in threads:
            thread.join()
        assert not failed
        assert set(torch.serialization.get_safe_globals()) == {*before, Mine, Others}
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def prefixed(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Put a prefix before every name."""
    return {prefix + key: value for key, value in state.items()}


PREFIXES = ["", "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("style", ["whole", "bare", "state_dict"])
@pytest.mark.parametrize("name", ["g7_tdmpc2_ckpt_new", "g7_tdmpc2_ckpt_old", "g7_pwm_ckpt_plain"])
def test_files_of_compiled_or_parallel_models_open(
    tmp_path: Path, name: str, style: str, prefix: str
) -> None:
    contents = open_foreign(golden(f"{name}.pt"))
    part = "model" if "tdmpc2" in name else "world_model"
    renamed = prefixed(contents[part], prefix)
    contents = {"whole": {**contents, part: renamed}, "bare": renamed}.get(
        style, {"state_dict": renamed, "epoch": 3}
    )
    torch.save(contents, tmp_path / "file.pt")
    model = WorldModel.from_checkpoint(tmp_path / "file.pt")
    for key, value in WorldModel.from_checkpoint(golden(f"{name}.pt")).state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


def test_a_compiled_part_is_renamed_and_mixed_prefixes_are_not() -> None:
    contents = open_foreign(golden("g7_tdmpc2_ckpt_new.pt"))["model"]
    compiled = {key.replace("_encoder.", "_encoder._orig_mod."): v for key, v in contents.items()}
    assert kind_of(compiled) == "TD-MPC2"
    mixed = {("module." if key.startswith("_pi") else "x.") + key: 0 for key in contents}
    with pytest.raises(ValueError, match="laid out as by TD-MPC2 or PWM"):
        kind_of(mixed)
