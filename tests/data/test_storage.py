"""Rows on the disk: packed, read run by run, the same from every thread and process."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from pwm_sdk.data.storage import DiskStorage, record_type, to_records

ENTRIES = {
    "done": {"dtype": "bool", "shape": [1]},
    "place": {"dtype": "float32", "shape": [3]},
    "task": {"dtype": "int64", "shape": []},
}


def rows(count: int) -> TensorDict:
    number = torch.arange(count)
    entries = {"done": number[:, None] % 3 == 0, "place": number[:, None] / 2 + torch.arange(3.0)}
    return TensorDict({**entries, "task": number}, batch_size=[count])


def stored(folder: Path, count: int = 10) -> DiskStorage:
    record = record_type(ENTRIES)
    to_records(rows(count), record).tofile(folder / "rows.bin")
    return DiskStorage(folder / "rows.bin", record, count)


def same(left: TensorDict, right: TensorDict) -> bool:
    return bool((left == right).all())


def test_records_are_laid_out_as_c_structs_widest_entry_first() -> None:
    record = record_type(ENTRIES)
    assert record.names == ("task", "place", "done")
    assert [record.fields[name][1] for name in record.names] == [0, 8, 20]
    assert record.itemsize == 24  # 21, rounded up to whole integers of 8 bytes
    packed = to_records(rows(2), record)[1].tobytes()
    assert packed[:20] == np.int64(1).tobytes() + np.float32([0.5, 1.5, 2.5]).tobytes()
    assert packed[20:] == bytes(4)


@pytest.mark.parametrize(
    "index",
    [[], [3], [0, 1, 2], [9, 8, 7], [4, 5, 5, 6, 9, 0, 1], [[1, 2, 3], [3, 4, 5]]],
    ids=str,
)
def test_rows_come_back_in_any_order(tmp_path: Path, index: list) -> None:
    wanted = torch.tensor(index, dtype=torch.int64)
    found = stored(tmp_path).gather(wanted, list(ENTRIES))
    assert found.shape == wanted.shape
    assert same(found, rows(10)[wanted])


def test_a_run_of_rows_is_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, places, read = stored(tmp_path), [], os.pread
    monkeypatch.setattr(
        os, "pread", lambda file, size, place: places.append(place) or read(file, size, place)
    )
    storage.gather(torch.tensor([[2, 3, 4], [7, 8, 9], [0, 1, 2]]), ["task"])
    assert places == [2 * 24, 7 * 24, 0]


def test_a_read_that_stops_half_way_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, read = stored(tmp_path), os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, place: read(file, min(size, 7), place))
    assert same(storage.between(2, 9), rows(10)[2:9])


def test_threads_and_other_processes_read_the_same(tmp_path: Path) -> None:
    storage = stored(tmp_path, 1000)
    windows = [torch.arange(i, i + 50) for i in range(0, 900, 9)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(storage.get, windows))
    expected = rows(1000)
    assert all(same(batch, expected[window]) for batch, window in zip(found, windows, strict=True))
    assert same(pickle.loads(pickle.dumps(storage)).get(windows[3]), expected[windows[3]])


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    storage = stored(tmp_path)
    for row in (-1, 10):
        with pytest.raises(IndexError, match=r"index must be in \[0, 10\)"):
            storage.get(torch.tensor([row]))
    with pytest.raises(RuntimeError, match="only read"):
        storage.set(0, rows(1))
    with pytest.raises(ValueError, match=r"rows\.bin must have 264 bytes, got 240 in"):
        DiskStorage(tmp_path / "rows.bin", record_type(ENTRIES), 11)
    with pytest.raises(ValueError, match=r"none\.bin must have 24 bytes, got 0 in"):
        DiskStorage(tmp_path / "none.bin", record_type(ENTRIES), 1)
    os.truncate(tmp_path / "rows.bin", 100)
    with pytest.raises(OSError, match="must have 10 records, but ends before"):
        storage.between(0, 10)
