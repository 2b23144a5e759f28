"""The widgets of the screen, one file each; none of them depends on snapshots."""
