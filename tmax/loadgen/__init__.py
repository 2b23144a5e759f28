"""The load generator behind ``tmax bench``: submits a mix of tasks to a swarm and reports rates, latencies and failures."""
