"""The Python API: ``Swarm``, ``Executor``, futures, and the errors that a program sees."""
