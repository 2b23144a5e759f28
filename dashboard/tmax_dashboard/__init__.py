"""The dashboard: a Textual app that draws the snapshots a controller pushes, and nothing between two of them."""
