"""The dashboard: a Textual app that draws the snapshots of a controller, without timers of its own."""
