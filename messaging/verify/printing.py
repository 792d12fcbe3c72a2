"""Printing a result so that nothing about the terminal changes the exit code, or ends in a stack trace."""

import os
import sys


def say(text: str, who: str) -> bool:
    """Print; says whether it could be. Who reads the first lines only is no failure; characters that cannot be shown are named."""
    out = sys.stdout
    if out is None:
        return False
    try:
        out.write(text.encode(out.encoding or "utf-8", "backslashreplace").decode(out.encoding or "utf-8"))
        out.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "standard output is closed"
        sys.stderr.write(f"{who}: the result cannot be written: {reason}.\n")
        return False
    return True
