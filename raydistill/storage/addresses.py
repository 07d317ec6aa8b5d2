"""Keys and tokens in addresses: refused where an address is taken, and shown nowhere."""

from __future__ import annotations

import re

from raydistill.errors import UserError

_END = r"\s'\"<>,;()\[\]{}"
_BEFORE_A_HOST = re.compile(rf"(\b[A-Za-z][\w+.-]*:/+)(?:[^/@{_END}]*|[^@{_END}]*:[^@{_END}]*)@")
_QUERY = re.compile(rf"(\b[A-Za-z][\w+.-]*:/+[^?#{_END}]*[?#])[^{_END}]+")


def without_secrets(text: str) -> str:
    """Return a text without what addresses in it hold before their host and in their query.

    >>> without_secrets("s3://key:secret@bucket/x: no such file")
    's3://***@bucket/x: no such file'
    >>> without_secrets("at https://host/a?token=secret, and s3://bucket/a@b")
    'at https://host/a?***, and s3://bucket/a@b'
    """
    return _QUERY.sub(r"\1***", _BEFORE_A_HOST.sub(r"\1***@", text))


def refuse_secrets(address: str) -> None:
    """Make sure that an address holds no credentials: it is shown, and written into files.

    Raises:
        UserError: where it does, without showing them.
    """
    shown = without_secrets(address)
    if shown != address:
        raise UserError(
            f"{shown[:200]}: must hold no key, password or token, since addresses are shown and written into files; "
            "they come from the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "GOOGLE_APPLICATION_CREDENTIALS)"
        )
