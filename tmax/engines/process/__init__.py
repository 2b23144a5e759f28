"""Workers as plain child processes: no terminal, no tmux."""
