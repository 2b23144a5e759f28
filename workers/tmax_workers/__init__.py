"""What runs inside a worker's tmux session: one job at a time, its result kept until it is stored.

Imports tmax_pipes, cloudpickle and the standard library; torch, NumPy and psutil inside functions; never tmax.
"""
