"""Addresses on the web: what must not be in them, since they are kept in settings, databases and model cards."""

import re

_AFTER_A_COLON = r"://[^/?#@\[]*:(?!\d+([/?#]|$))[\s\S]*@"  # a password may have a slash in it; a port has not
_OF_A_BUCKET = r"([sS]3|[gG][sS])://[^/?#@]*:[\s\S]*@"  # which has no port, and keys of S3 have slashes
USER = rf"(://[^/?#]*@|{_AFTER_A_COLON}|{_OF_A_BUCKET})"  # wherever it stands: behind a blank, behind `shards:`
NAMED = (
    r"([\w-]*[-_])?([Tt]oken|[Ss]ecret|[Pp]asswo?r?d|[Pp]assphrase|[Ss]ig|[Ss]ignature|[Cc]redentials?|[Aa]uth"
    r"|[Aa]uthorization|[Aa]pi[-_]?[Kk]ey|[Aa]ccess[-_]?[Kk]ey)"
)

WITHOUT_SECRETS = rf"^(?![\s\S]*{USER})(?![\s\S]*://[\s\S]*[?&#]{NAMED}=)"
"""For the JSON schema of a form, which then refuses an address before it is kept anywhere."""


def secret_in(url: str) -> str | None:
    """What of it looks like a secret, in words that do not tell it; None where nothing does."""
    if re.search(USER, url):
        return "a user or a password in it"
    named = re.search(rf"://[\s\S]*[?&#]({NAMED})=", url, re.IGNORECASE)
    return f"a secret in it, as `{named[1]}`" if named else None


def shown(url: str) -> str:
    """The address without what may be secret in it."""
    if re.search(f"{_AFTER_A_COLON}|{_OF_A_BUCKET}", url):  # where the secret ends, the last @ says
        url = re.sub(r"(?<=://)[\s\S]*@", "", url)
    return re.split(r"[?#]", re.sub(r"(?<=://)[^/?#]*@", "", url), maxsplit=1)[0]
