"""The protocol between a controller and a worker, and the FIFOs that carry it.

The lowest package: it imports the standard library and msgspec, nothing else.
"""
