"""The process inside a worker's tmux session: it runs one job at a time and keeps each result until it is stored.

Imports tmax_pipes, cloudpickle and the standard library; torch, NumPy and psutil inside functions; never tmax.
"""
