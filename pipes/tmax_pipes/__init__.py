"""What crosses the border between a controller and a worker, and the FIFOs it travels on.

The ground floor of the house: it imports the standard library and msgspec, nothing else.
"""
