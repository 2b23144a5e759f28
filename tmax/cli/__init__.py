"""The command line.

    fast.py ------> verbs/ (the table of verbs) --> verbs/NAME.py --> shared modules of this folder
      |                       ^
      +--> typer_app.py ------+      help, combined short options, mistakes

Each file of ``verbs/`` declares one verb completely: its words, options, help, examples and function (``declaration.py``).
``fast.py`` loads only the file of the verb that was typed; ``typer_app.py`` generates its commands from all of them.
"""
