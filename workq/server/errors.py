"""Why a server does not start."""

import os


class StartError(Exception):
    """The server cannot start. The text tells the operator why, in one line."""


def cannot_listen(where: str, error: OSError, hint: str = "") -> StartError:
    """The error for a place where nobody can listen; `hint` says what to do about it."""
    # asyncio wraps the reason into a sentence of its own; the system's words are enough.
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
    return StartError(f"cannot listen on {where}: {reason}{hint}")
