"""Errors that a user can cause and can mend."""


class UserError(Exception):
    """Something only the user can put right; the message is one sentence or a list of them.

    Form: ``where: what must hold, got what; what to do``. The command line prints it without a traceback and exits
    with code 2.
    """


def one_error(problems: list[str], headline: str) -> UserError:
    """Join ``problems`` under ``headline`` into one error, so that all of them are seen at once."""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return UserError("\n".join([f"{headline} ({count}):", *(f"  - {problem}" for problem in problems)]))


def counted(number: int, thing: str) -> str:
    """Return how many there are, for a sentence of ours.

    >>> counted(1, "worker"), counted(3, "worker")
    ('1 worker', '3 workers')
    """
    return f"1 {thing}" if number == 1 else f"{number} {thing}s"


def first_line(error: BaseException) -> str:
    """Return the first line of what ``error`` says, for a sentence of ours."""
    return (str(error).splitlines() or [""])[0]
