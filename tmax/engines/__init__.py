"""The only door downward: start, speak to and end workers, whatever they run on."""
