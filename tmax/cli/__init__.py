"""The command line.

fast.py --- hot verbs: parsed by hand, asked over the socket, printed; the standard library only, and little of it
  |           options.py (the table)  codec.py  ask.py  say.py  and one file for each group of verbs
  +------- anything else, --help, and whatever was not understood: main.py (typer), which calls the very same functions
"""
