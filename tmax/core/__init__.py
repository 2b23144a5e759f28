"""The pure rooms: they take events and the time, and return values; they touch nothing."""
