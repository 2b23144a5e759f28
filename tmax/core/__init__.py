"""The scheduling rules.  Pure: they take events and the time, and return values; no clock, file, process or thread is used."""
