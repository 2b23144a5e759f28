"""``python -P -m tmax_dashboard --swarm S --control SOCKET --tmux SOCKET [--always]``.

A first line is written before Textual is imported, which takes longer than the rest of the start.
"""

from __future__ import annotations

import argparse
import os
import sys


def main() -> int:
    """Run the app; return its exit code."""
    parser = argparse.ArgumentParser(prog="tmax_dashboard", description="Draws a swarm; started by the controller in the monitor session.")
    parser.add_argument("--swarm", required=True, help="its name")
    parser.add_argument("--control", required=True, help="its control socket")
    parser.add_argument("--tmux", required=True, help="the socket of its tmux server")
    parser.add_argument("--always", action="store_true", help="receive snapshots also while no client views the monitor session")
    chosen = parser.parse_args()
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print("error: the dashboard needs a terminal", file=sys.stderr)
        return 2
    sys.stdout.write(f"\r tmax  {ascii(chosen.swarm)[1:-1]}  waiting for the controller…\x1b[K")
    sys.stdout.flush()
    try:
        return _run(chosen.swarm, chosen.control, chosen.tmux, always=chosen.always)
    finally:
        sys.stdout.write("\r\x1b[K")
        sys.stdout.flush()


def _run(swarm: str, control: str, tmux: str, *, always: bool) -> int:
    from tmax_dashboard.app import Dashboard
    from tmax_dashboard.feed import ControlFeed
    from tmax_dashboard.tmux_client import Tmux

    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)  # of the shell that started tmux; they would override the pane's size
    app = Dashboard(ControlFeed(swarm, control, always=always), Tmux(tmux, os.environ), swarm)
    app.run(mouse=False)  # keep the terminal's own text selection
    return app.return_code or 0


if __name__ == "__main__":
    sys.exit(main())
