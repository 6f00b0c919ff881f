"""Who acts, and when: what a signature is made of where the caller gives none.

The one module of the library that reads the environment, the home directory and the clock. It is asked only
to sign: nothing that is read or computed depends on it.
"""

from __future__ import annotations

import getpass
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deltavcs.brief import brief
from deltavcs.signature import Signature

_MAX_CONFIG_BYTES = 1 << 20
_MAX_AUTHOR = 200
_SETTING = re.compile(r"(name|email)\s*=\s*(.*)", re.IGNORECASE)


def now() -> int:
    """Microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class Identity:
    """Signs what a repository writes.

    Attributes:
        author: who acts; None for `current_author()`, asked each time.
        clock: gives the time, in microseconds since 1970-01-01 UTC.
    """

    author: str | None = None
    clock: Callable[[], int] = now

    __repr__ = brief

    def sign(self, message: str = "") -> Signature:
        """A signature of this moment; `message` says why, for the reflog."""
        return Signature(current_author() if self.author is None else self.author, self.clock(), message)


def current_author() -> str:
    """DVX_AUTHOR, else the user of Git's configuration, else the login name.

    Read without starting Git; `[include]` is not followed.
    """
    given = os.environ.get("DVX_AUTHOR", "").strip()
    if given:
        return _clean(given)
    found: dict[str, str] = {}
    for path in _git_files():
        found.update(_user_of(path))
    name = os.environ.get("GIT_AUTHOR_NAME") or found.get("name") or _login()
    email = os.environ.get("GIT_AUTHOR_EMAIL") or found.get("email")
    return _clean(f"{name} <{email}>" if email else name)


def _git_files() -> list[Path]:
    """Git's configuration files, the most general first."""
    home = Path(os.environ.get("HOME") or "~").expanduser()
    xdg = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    local = next((d / ".git/config" for d in _here() if (d / ".git/config").is_file()), None)
    files = [Path("/etc/gitconfig"), xdg / "git/config", home / ".gitconfig"]
    return [*files, local] if local else files


def _here() -> list[Path]:
    """The working directory and those above it; none if it was removed under our feet."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        return []
    return [here, *here.parents]


def _user_of(path: Path) -> dict[str, str]:
    """`name` and `email` of the section `[user]`; nothing if the file cannot be read."""
    try:
        with path.open("rb") as file:
            lines = file.read(_MAX_CONFIG_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return {}
    section, found = "", {}
    for raw in lines:
        text = raw.strip()
        if text.startswith("["):
            section = text.partition("]")[0][1:].strip().lower()
        elif section == "user" and (match := _SETTING.match(text)):
            found[match[1].lower()] = _value(match[2])
    return found


def _value(text: str) -> str:
    quoted = re.match(r'"((?:[^"\\]|\\.)*)"', text)
    if quoted:
        return re.sub(r"\\(.)", r"\1", quoted[1])
    return re.split(r"\s[#;]", text)[0].strip()


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


def _clean(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_MAX_AUTHOR]
