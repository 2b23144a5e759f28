"""``python -P -m tmax_workers``: the root process of a worker's pane."""

from __future__ import annotations

import sys

from tmax_workers.options import USAGE, BadOptions, parse


def run() -> int:
    """Run a worker; return 64 when the command line is wrong."""
    try:
        options = parse(sys.argv[1:])
    except BadOptions as error:
        print(f"error: {error}\nhint: a worker is started by the controller: {USAGE}", file=sys.stderr)
        return 64
    from tmax_workers.runtime import main

    return main(options)


if __name__ == "__main__":
    sys.exit(run())
