"""What CPU does the dashboard use with 100 workers at one snapshot a second, and how soon does it paint, beside a trivial Textual app?"""

from __future__ import annotations

import sys
import threading

from tests.bench.figures import Figure, Must, Row
from tests.bench.machine import cpu_s
from tests.bench.rounds import Sizes, in_rounds
from tests.bench.terminal_program import TerminalProgram
from tests.box import Box

TITLE = "dashboard"
TRIVIAL = """
from textual.app import App
from textual.widgets import Static
class Trivial(App):
    def compose(self):
        yield Static("painted")
Trivial().run(mouse=False)
"""


def dashboard(box: Box) -> TerminalProgram:
    """Return the dashboard of a box's swarm in a terminal of its own; it receives snapshots also without a tmux viewer."""
    sockets = ["--control", str(box.runtime / "control.sock"), "--tmux", str(box.runtime / "tmux.sock")]
    return TerminalProgram([sys.executable, "-P", "-m", "tmax_dashboard", "--swarm", "default", *sockets, "--always"], box.env)


def paint_s(program: TerminalProgram, mark: bytes) -> float:
    """Return the seconds to the first paint, and end the program."""
    try:
        return program.seconds_until(mark)
    finally:
        program.close()


def run(sizes: Sizes) -> list[Row]:
    """Measure the first paints in rounds, then the CPU over a while."""
    workers, seconds = sizes.size("dashboard-workers", 100, 2), sizes.size("watched-seconds", 20, 2)
    box = Box()
    try:
        box.tmax("init", "-n", str(workers), timeout_s=300)
        taken = in_rounds(
            {
                "ours": lambda: paint_s(dashboard(box), b"w1"),
                "trivial": lambda: paint_s(TerminalProgram([sys.executable, "-c", TRIVIAL], box.env), b"painted"),
            },
            sizes.rounds,
        )
        program = dashboard(box)
        try:
            program.seconds_until(b"w1")
            threading.Event().wait(1.0)  # the first paint is not part of it
            before = cpu_s(program.pid)
            threading.Event().wait(seconds)
            percent = 100 * (cpu_s(program.pid) - before) / seconds
        finally:
            program.close()
    finally:
        box.close()
    return [
        Figure(
            what=f"first paint, {workers} workers",
            unit="s",
            samples=tuple(taken["ours"]),
            peer="trivial Textual app",
            peer_samples=tuple(taken["trivial"]),
            target="P14",
            must=Must(comparison="<=", bound=2),
        ),
        Figure(
            what=f"CPU with {workers} workers at one snapshot a second, {seconds} s",
            unit="% of a core",
            samples=(percent,),
            target="P14",
            must=Must(comparison="<=", bound=6, of="value"),
        ),
    ]
