from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.control.toy import Toy, toy


@pytest.fixture
def swarm(no_leaks: None) -> Iterator[Toy]:
    """A listening controller in small."""
    with toy() as made:
        yield made
