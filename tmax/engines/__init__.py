"""What carries workers: start, message and end them, whatever they run on.  The README of this package lists its modules."""
