"""What is on the screen, one file each; none of them knows a snapshot."""
