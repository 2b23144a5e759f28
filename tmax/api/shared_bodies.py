"""What a client sends once for many tasks: kept as files, named by digest, put again before they can be swept away."""

from __future__ import annotations

import hashlib
import time

from tmax_pipes import blobs
from tmax_pipes.jobs import Blob, Body

PUT_AGAIN_S = 600.0
"""A file that no live task names is swept away after an hour."""
_PUTS = 4096


class SharedBodies:
    """Those of one client; ``folder``: the swarm's folder of bodies."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._put: dict[str, float] = {}

    def of(self, data: bytes, inline_bytes: int) -> Body:
        """Return ``data`` itself up to ``inline_bytes``, else the name it is kept under.  Raises OSError when it cannot be kept."""
        if len(data) <= inline_bytes:
            return data
        return self.again(Blob(digest=hashlib.sha256(data).hexdigest(), size_bytes=len(data)), data)

    def again(self, body: Body, data: bytes, now: float = 0.0) -> Body:
        """Return ``body``, the name of ``data``; see to it that it is kept for some time to come.  ``now``: monotonic seconds, 0: look."""
        if isinstance(body, Blob):
            now = now or time.monotonic()
            if now - self._put.get(body.digest, -PUT_AGAIN_S) >= PUT_AGAIN_S:
                blobs.put(self.folder, data)
                self._put[body.digest] = now
                if len(self._put) > _PUTS:
                    self._put = {known: at for known, at in list(self._put.items()) if now - at < PUT_AGAIN_S}
        return body
