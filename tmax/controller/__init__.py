"""The controller: one process a swarm; the loop, the answers, and the picture it draws for viewers."""
