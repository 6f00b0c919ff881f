"""Who makes a commit: DVX_AUTHOR, else the user of Git's configuration, else the login name."""

from __future__ import annotations

import getpass
import os
import re
from pathlib import Path

_MAX_CONFIG_BYTES = 1 << 20
_MAX_AUTHOR = 200
_SETTING = re.compile(r"(name|email)\s*=\s*(.*)", re.IGNORECASE)


def author(start: Path) -> str:
    """Name and address of the user, read without starting Git; `[include]` is not followed."""
    given = os.environ.get("DVX_AUTHOR", "").strip()
    if given:
        return _clean(given)
    found: dict[str, str] = {}
    for path in _git_files(start):
        found.update(_user_of(path))
    name = os.environ.get("GIT_AUTHOR_NAME") or found.get("name") or _login()
    email = os.environ.get("GIT_AUTHOR_EMAIL") or found.get("email")
    return _clean(f"{name} <{email}>" if email else name)


def _git_files(start: Path) -> list[Path]:
    """Git's configuration files, the most general first."""
    home = Path(os.environ.get("HOME") or "~").expanduser()
    xdg = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    local = next((d / ".git/config" for d in (start, *start.parents) if (d / ".git/config").is_file()), None)
    files = [Path("/etc/gitconfig"), xdg / "git/config", home / ".gitconfig"]
    return [*files, local] if local else files


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
