"""The one exception for bad input: its message is the single line that the user reads."""


class BadInput(ValueError):
    """What was wrong, where, and what to do, in one line; the command line exits with status 2."""
