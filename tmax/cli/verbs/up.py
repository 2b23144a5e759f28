"""``up``: another name for ``init``."""

from __future__ import annotations

from tmax.cli.declaration import Verb
from tmax.cli.verbs.init import VERB as INIT

VERB = Verb(
    "up", INIT.function, options=INIT.options, help="Do the same as tmax init.", examples=(("tmax up -n 4", "the same as tmax init -n 4"),)
)
