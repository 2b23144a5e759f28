from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.cli.toy import Toy


@pytest.fixture
def toy(no_leaks: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toy]:
    """A toy controller, with the environment of this process pointing at it."""
    with Toy() as made:
        for name, value in made.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("TMAX_SWARM", raising=False)
        monkeypatch.delenv("TMUX", raising=False)
        yield made
