"""Several writers of one file or folder: no error, and readers see one whole version."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from pwm_sdk import Critic, ReplayBuffer, make_episode, write_atomic
from pwm_sdk.checkpoints.atomic import _HOST, is_part, remove_parts
from pwm_sdk.checkpoints.locks import lock_folder
from pwm_sdk.checkpoints.reading import load_state, read_json, read_tensors
from pwm_sdk.checkpoints.writing import save_state, write_json, write_tensors

ROOT = Path(__file__).resolve().parents[2]


def replay(value: float) -> ReplayBuffer:
    """Rows that all say `value`."""
    made = ReplayBuffer(100, slice_len=3, batch_size=2)
    steps = int(value) % 7 + 4
    seen = torch.full((steps + 1, 2), value)
    made.add(make_episode(seen, torch.zeros(steps, 1), torch.full((steps,), value), 0))
    return made


def write_all(folder: Path, value: float) -> None:
    """Write every kind of file, each of one value throughout."""
    write_json(folder / "a.json", [value] * 200)
    write_tensors(folder / "a.safetensors", {"x": torch.full((500,), value)}, {"v": str(value)})
    save_state(folder / "a.pt", {"x": torch.full((500,), value)})
    Critic(3, (4,)).save(folder / "critic.safetensors")
    replay(value).save(folder / "replay")


def read_all(folder: Path) -> None:
    """Check that every file is of one value throughout."""
    assert len(set(read_json(folder / "a.json", list))) == 1
    tensors, about = read_tensors(folder / "a.safetensors")
    assert set(tensors["x"].tolist()) == {float(about["v"])}
    assert len(set(load_state(folder / "a.pt")["x"].tolist())) == 1
    Critic.from_checkpoint(folder / "critic.safetensors")
    opened = replay(0.0)
    opened.load(folder / "replay")
    (episode,) = opened.episodes(0)
    assert len(set(episode["observation"].flatten().tolist())) == 1


PROGRAM = """
import sys, time
from pathlib import Path
sys.path.insert(0, str(Path({here!r})))
from test_writers import write_all
print("ready", flush=True)
sys.stdin.readline()
for number in range(8):
    write_all(Path(sys.argv[1]), float(int(sys.argv[2]) + number))
"""


def test_two_processes_write_what_a_third_reads(tmp_path: Path) -> None:
    write_all(tmp_path, 0.0)
    code = PROGRAM.format(here=str(Path(__file__).parent))
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(begin)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for begin in (100, 200)
    ]
    for writer in writers:
        assert writer.stdout is not None and writer.stdin is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    reads = 0
    while any(writer.poll() is None for writer in writers):
        read_all(tmp_path)
        reads += 1
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert (writer.returncode, errors) == (0, "")
    assert reads > 0
    read_all(tmp_path)
    assert not [name for name in os.listdir(tmp_path) if is_part(name)]
    assert len(os.listdir(tmp_path / "replay")) == 2  # the manifest and what it names


def test_threads_write_one_file(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def work(begin: int) -> None:
        try:
            for number in range(10):
                write_all(tmp_path, float(begin + number))
                read_all(tmp_path)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(100 * i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed[0]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_files_have_the_mode_of_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_all(tmp_path, 1.0)
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 6
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o666 & ~umask}
    os.chmod(tmp_path / "a.json", 0o640)
    write_json(tmp_path / "a.json", 2)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640


def test_a_link_is_followed_and_home_is_found(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "link.json").symlink_to(tmp_path / "deep" / "file.json")
    write_json(tmp_path / "link.json", 1)
    assert (tmp_path / "link.json").is_symlink()
    assert read_json(tmp_path / "deep" / "file.json") == 1
    Critic(3, (4,)).save("~/critic.safetensors")
    assert Critic.from_checkpoint("~/critic.safetensors").latent_dim == 3
    replay(1.0).save("~/replay")
    replay(0.0).load("~/replay")
    assert sorted(os.listdir(tmp_path / "home")) == ["critic.safetensors", "replay"]


def test_long_names_fit(tmp_path: Path) -> None:
    name = "ä" * 120 + ".json"
    write_json(tmp_path / name, 1)
    assert read_json(tmp_path / name) == 1


def test_what_dead_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    names = {
        "dead": f".a.json.{_HOST}-{dead}-0123456789ab.part",
        "young": f".a.json.{_HOST}-{dead}-0123456789ac.part",
        "alive": f".a.json.{_HOST}-{os.getppid()}-0123456789ad.part",
        "elsewhere": f".a.json.00000000-{dead}-0123456789ae.part",
        "other": f".b.json.{_HOST}-{dead}-0123456789ab.part",
        "mine": "a.json.part",
    }
    for kind, name in names.items():
        (tmp_path / name).write_text("half")
        if kind != "young":
            os.utime(tmp_path / name, (time.time() - 1e5,) * 2)
    write_json(tmp_path / "a.json", 1)
    gone = {kind for kind, name in names.items() if not (tmp_path / name).exists()}
    assert gone == {"dead"}
    remove_parts(tmp_path, age=0.0)
    gone = {kind for kind, name in names.items() if not (tmp_path / name).exists()}
    assert gone == {"dead", "young", "other"}


@pytest.mark.parametrize("place", ["below a file", "a folder", "empty"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    path = {"below a file": tmp_path / "file" / "a", "a folder": tmp_path / "folder", "empty": ""}
    with pytest.raises((OSError, ValueError), match={"empty": "path must"}.get(place, "fil|fold")):
        write_atomic(path[place], lambda part: part.write_text("y"))
    with pytest.raises((OSError, ValueError), match={"empty": "path must"}.get(place, "fil|fold")):
        Critic(3, (4,)).save(path[place])
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    limit = "ulimit -f 40; trap '' XFSZ; exec \"$@\""  # a file of 40 blocks at most
    code = f"""
import torch
from pwm_sdk.checkpoints.writing import save_state, write_json, write_tensors
big, out = torch.zeros(100_000), {str(tmp_path)!r}
for write in (
    lambda: save_state(out + "/a.pt", big),
    lambda: write_tensors(out + "/a.safetensors", {{"x": big}}, {{}}),
    lambda: write_json(out + "/a.json", [0.5] * 50_000),
):
    try:
        write()
    except OSError as error:
        print(error)
"""
    done = subprocess.run(
        ["sh", "-c", limit, "sh", sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == [
        repr(f"{tmp_path}/a.{kind}") for kind in ("pt", "safetensors", "json")
    ]
    assert not os.listdir(tmp_path)


def test_a_lock_excludes_threads_and_ends_with_its_process(tmp_path: Path) -> None:
    mine = f"in use by another process .process {os.getpid()}"
    with (
        lock_folder(tmp_path / "run"),
        pytest.raises(ValueError, match=mine),
        lock_folder(tmp_path / "run"),
    ):
        pass
    code = f"""
from pwm_sdk.checkpoints.locks import lock_folder
import sys, time
with lock_folder({str(tmp_path / "run")!r}):
    print("held", flush=True)
    time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    holder = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match=f"process {holder.pid}"), lock_folder(tmp_path / "run"):
        pass
    holder.kill()
    with lock_folder(tmp_path / "run", wait=10.0) as lock:
        assert lock.folder == tmp_path / "run"
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(ValueError, match="run removed"):
            lock.check()
    holder.communicate()
