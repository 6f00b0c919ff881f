"""How the Hugging Face Hub is reached; what models and datasets share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltavcs.errors import ErrorKind, MissingDependencyError


@dataclass(frozen=True, slots=True)
class HubOptions:
    """How to reach the Hub; everything the environment would otherwise decide.

    Attributes:
        endpoint: base URL; None for the public Hub.
        token: access token, or None.
        cache_dir: where files are kept; None for huggingface_hub's own cache.
        offline: use only what the cache holds.
    """

    endpoint: str | None = None
    token: str | None = None
    cache_dir: Path | None = None
    offline: bool = False


def import_hub() -> Any:
    """The huggingface_hub module, with its `errors`.

    Raises:
        MissingDependencyError: `missing-package`.
    """
    try:
        import huggingface_hub.errors
    except ImportError as exc:
        raise MissingDependencyError(
            "this needs huggingface_hub",
            kind=ErrorKind.MISSING_PACKAGE,
            facts={"package": "huggingface_hub"},
        ) from exc
    return huggingface_hub
