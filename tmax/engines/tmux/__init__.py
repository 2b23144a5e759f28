"""Workers in tmux sessions: the default engine."""
