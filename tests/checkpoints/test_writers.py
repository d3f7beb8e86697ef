"""Several writers of one file or folder: no error, and readers see one whole version."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pwm_sdk import Critic, ReplayBuffer, make_episode
from pwm_sdk.checkpoints.atomic import _HOST, is_part, remove_parts, write_atomic
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
    Critic.published(3, (4,)).save(folder / "critic.safetensors")
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
    assert len(os.listdir(tmp_path / "replay")) == 3  # the manifest and what it names


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
    assert len(files) == 7
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
    Critic.published(3, (4,)).save("~/critic.safetensors")
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
        Critic.published(3, (4,)).save(path[place])
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


@pytest.mark.parametrize("kind", ["pipe", "device", "loop"])
def test_what_is_no_file_is_neither_replaced_nor_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd"
    if kind == "loop":
        path.symlink_to(path)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null")
    before = path.lstat()
    same = attrgetter("st_mode", "st_ino", "st_size", "st_mtime_ns")  # looking at it is no change
    for write in (
        lambda: write_json(path, []),
        lambda: save_state(path, []),
        lambda: Critic.published(3, (4,)).save(path),
    ):
        with pytest.raises((ValueError, OSError), match=r"pipe or device|symbolic links"):
            write()
    for read in (read_json, read_tensors, load_state, Critic.from_checkpoint):
        with pytest.raises((ValueError, FileNotFoundError), match=r"path must name a file, got"):
            read(path)
    assert same(path.lstat()) == same(before)
    assert [file.name for file in tmp_path.iterdir()] == ["odd"]
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_lock_writes_into_no_file_but_its_own(tmp_path: Path, kind: str) -> None:
    other = tmp_path / "other"
    other.write_text("kept")
    (tmp_path / "run").mkdir()
    if kind == "pipe":
        os.mkfifo(tmp_path / "run" / ".lock")
    else:
        (tmp_path / "run" / ".lock").symlink_to(other)
    with pytest.raises((ValueError, OSError), match=r"\.lock"), lock_folder(tmp_path / "run"):
        pass
    assert other.read_text() == "kept"


def test_a_lock_is_of_the_folder_where_it_was_taken(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with lock_folder("run") as lock:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        lock.check()


@pytest.mark.parametrize(
    "name", ["two words", "\u00e4\u6a21", "new\nline", "-dash", "%s{x}", "x" * 255]
)
def test_any_name_is_written_read_and_cleaned(tmp_path: Path, name: str) -> None:
    critic = Critic.published(3, (4,))
    critic.save(tmp_path / name)
    assert Critic.from_checkpoint(tmp_path / name).settings == critic.settings
    left = tmp_path / f".{name[:100]}.{_HOST}-{2**22 + 1}-0123456789ab.part"
    left.touch()
    remove_parts(tmp_path, age=0.0)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_killed_writer_leaves_nothing_that_the_next_lock_does_not_remove(tmp_path: Path) -> None:
    program = (
        "import sys, os, torch\n"
        "from pwm_sdk.checkpoints import atomic, writing\n"
        "atomic.sync = lambda path: os.kill(os.getpid(), 9)\n"
        "write = writing.save_state if sys.argv[2] == 'state' else writing.write_tensors\n"
        "write(sys.argv[1], {'x': torch.ones(9)}, {})\n"
    )
    for kind in ("state", "tensors"):
        path = tmp_path / kind / "a"
        found = subprocess.run(
            [sys.executable, "-c", program, str(path), kind], cwd=ROOT, check=False
        )
        assert found.returncode == -9
        assert [is_part(file.name) for file in path.parent.iterdir()] == [True]
    with lock_folder(tmp_path):
        assert not [file for file in tmp_path.rglob("*") if file.is_file() and file.name != ".lock"]


def test_tensors_are_read_by_the_library_as_they_were(tmp_path: Path) -> None:
    tensors = {
        "z": torch.arange(3, dtype=torch.uint8),
        "none": torch.empty(0, 4),
        "one": torch.tensor(2.5, dtype=torch.float64),
        "turned": torch.arange(6.0).reshape(2, 3).T,
        "small": torch.ones(3, dtype=torch.bfloat16),
        "flags": torch.tensor([True, False]),
    }
    for path in (tmp_path / "a", tmp_path / "b"):
        write_tensors(path, tensors, {"b": "2", "a": "\u00e4"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    found = load_file(tmp_path / "a")
    assert {name: (v.dtype, v.tolist()) for name, v in found.items()} == {
        name: (v.dtype, v.tolist()) for name, v in tensors.items()
    }
    assert read_tensors(tmp_path / "a").about == {"b": "2", "a": "\u00e4"}
    with pytest.raises(ValueError, match=r"wave must be of a type in .*, got torch\.complex64"):
        write_tensors(tmp_path / "c", {"wave": torch.ones(2, dtype=torch.complex64)}, {})


def test_a_name_twice_in_json_is_damage(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"score": 1, "seed": 0, "score": 2}')
    with pytest.raises(ValueError, match=r"a\.json must be undamaged JSON, got a name twice"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("odd", [torch.ones(2), True, 1.0, "1", None, [1]])
def test_a_state_of_a_stranger_is_refused_whatever_it_claims(tmp_path: Path, odd: Any) -> None:
    head = {"format": "pwm_sdk.state", "version": 1, "about": {"seed": 0}, "contents": 1}
    path = tmp_path / "a.pt"
    for name in ("version", "about", "format"):
        torch.save({**head, name: odd}, path)
        with pytest.raises(ValueError, match=r"a\.pt must .*: delete it to start over"):
            load_state(path, {"seed": 0})
    torch.save(head, path)
    assert load_state(path, {"seed": 0}) == 1
