"""A run's folder holds one run, of one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from pwm_sdk import OtherRunError, read_json
from pwm_sdk.runs import keep_settings, run_folder


def test_settings_are_kept_once_there_are_results(tmp_path: Path) -> None:
    with run_folder(tmp_path / "run", {"steps": 1}) as folder:
        keep_settings(folder, {"steps": 2})  # nothing was learned yet
        (folder / "seed0").mkdir()
        keep_settings(folder, {"steps": 2})
    config = read_json(folder / "config.json")
    assert config.pop("run")["settings"]
    assert config == {"steps": 2}
    with (
        pytest.raises(OtherRunError, match=r"other settings .*: choose another folder"),
        run_folder(tmp_path / "run", {"steps": 1}),
    ):
        pass
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"holds results, but no config\.json .*: go away"):
        keep_settings(folder, {"steps": 2}, remedy="go away")


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    with (
        run_folder(tmp_path, {}),
        pytest.raises(ValueError, match="in use by another process"),
        run_folder(tmp_path, {}),
    ):
        pass
    with run_folder(tmp_path, {}) as again:
        assert again == tmp_path
