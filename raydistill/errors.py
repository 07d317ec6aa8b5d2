"""Errors that a user can cause and can mend."""

import re
import unicodedata

_BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u2800\u3164\uffa0"
"""Letters of the alphabet's classes that show nothing."""
_MOST = 100  # problems in one error
_LONGEST = 10_000  # letters of each


class UserError(Exception):
    """Something only the user can put right; the message is one sentence or a list of them.

    Form: ``where: what must hold, got what; what to do``. The command line prints it without a traceback and exits
    with code 2.
    """


def printable(text: str, lines: bool = False) -> str:
    r"""Return a text in which nothing acts on a terminal, hides or turns what is around it: such letters are escaped.

    Control characters, changes of direction, line separators, letters without width, halves of letters.

    Args:
        text: with names of users in it.
        lines: keep line ends and tabs.

    >>> print(printable("a\x1b[2Jb\u202ec\u200bd\ne"), printable("a\nb", lines=True) == "a\nb")
    a\x1b[2Jb\u202ec\u200bd\ne True
    """
    kept = "\n\t" if lines else ""
    return "".join(c if _is_visible(c) or c in kept else c.encode("unicode_escape").decode() for c in text)


def printable_error(error: BaseException | str) -> str:
    """Return what an error says, with the lines that `one_error` makes and without those that are in names."""
    return printable(re.sub(r"\n(?!  )", r"\\n", str(error)), lines=True)


def _is_visible(letter: str) -> bool:
    if letter.isascii():
        return " " <= letter <= "~"
    return letter not in _BLANK and (letter.isprintable() or unicodedata.category(letter) == "Zs")


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
