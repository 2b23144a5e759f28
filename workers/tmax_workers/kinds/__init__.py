"""How each kind of job runs."""
