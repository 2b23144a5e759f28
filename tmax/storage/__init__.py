"""What survives: the task store and the lock that goes with it."""
