"""The one exception for bad input: its message is the single line that the user reads."""


class BadInput(ValueError):
    """What was wrong, where, and what to do, in one line; the command line exits with status 2."""


def said(error: BaseException) -> str:
    """What somebody else's exception says, in one line; its type where it says nothing."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
