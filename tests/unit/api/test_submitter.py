"""What a program tells workers of itself."""

from __future__ import annotations

import os
from pathlib import Path

from tmax.bodies import Bodies
from tmax.searchpath import SearchPath
from tmax.submitter import Submitter
from tmax_pipes import blobs
from tmax_pipes.jobs import Blob, decode_context


def test_a_context_holds_its_initializer_itself_so_that_whoever_keeps_the_context_keeps_both(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    initializer = b"i" * 100_000
    body = Submitter(Bodies(str(tmp_path)), SearchPath(), initializer=initializer).context()
    assert isinstance(body, Blob)
    assert os.listdir(tmp_path) == [body.digest]
    assert decode_context(blobs.get(tmp_path, body)).initializer == initializer
