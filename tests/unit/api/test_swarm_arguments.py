"""Arguments of ``Swarm`` that are wrong are refused before anything is started, and the message names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tmax import ConfigError, Swarm


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("STATE_HOME", "RUNTIME_DIR", "CONFIG_HOME"):
        monkeypatch.setenv(f"XDG_{name}", str(tmp_path / name))
    return tmp_path


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"engine": "dask"}, "swarm.engine: "),
        ({"durability": "none"}, "store.durability: "),
        ({"pool": -1}, "swarm.pool: "),
        ({"workers": 1.5}, "swarm.workers: "),
        ({"preload": [1]}, r"swarm.preload\[0\]: "),
    ],
)
def test_a_wrong_setting_is_named(given: dict[str, Any], named: str, folders: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{named}"):
        Swarm(**{"workers": 1, **given})
    assert not any(folders.iterdir())


def test_preload_is_not_one_string() -> None:
    with pytest.raises(TypeError, match="preload"):
        Swarm(1, preload="numpy")
