"""``python -m tmax``: the command line."""

from __future__ import annotations

import sys

from tmax.cli.fast import main

sys.exit(main())
