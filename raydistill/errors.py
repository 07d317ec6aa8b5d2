"""Errors that a user can cause and can mend."""

_MOST = 100  # problems in one error
_LONGEST = 10_000  # letters of each


class UserError(Exception):
    """Something only the user can put right; the message is one sentence or a list of them.

    Form: ``where: what must hold, got what; what to do``. The command line prints it without a traceback and exits
    with code 2.
    """


def one_error(problems: list[str], headline: str) -> UserError:
    """Join ``problems`` under ``headline`` into one error, so that all of them are seen at once; very many are cut."""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    half = _LONGEST // 2
    shown = (text if len(text) <= _LONGEST else f"{text[:half]} ... {text[-half:]}" for text in problems[:_MOST])
    lines = [f"  - {problem}" for problem in shown]
    if len(problems) > _MOST:
        lines.append(f"  ... and {len(problems) - _MOST} more")
    return UserError("\n".join([f"{headline} ({count}):", *lines]))


def counted(number: int, thing: str) -> str:
    """Return how many there are, for a sentence of ours.

    >>> counted(1, "worker"), counted(3, "worker")
    ('1 worker', '3 workers')
    """
    return f"1 {thing}" if number == 1 else f"{number} {thing}s"


def first_line(error: BaseException) -> str:
    """Return the first line of what ``error`` says, for a sentence of ours."""
    return (str(error).splitlines() or [""])[0]
