"""The controller process, one for each swarm: its loop, its start, and the replies to clients."""
