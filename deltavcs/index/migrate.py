"""Forward-only migrations, each in one transaction with its ledger row (name and SHA-256)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from deltavcs.index.database import UnusableDatabase, load_duckdb

if TYPE_CHECKING:
    import duckdb

LEDGER = "schema_migrations"


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Fingerprint of the text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@cache
def migrations() -> tuple[Migration, ...]:
    """All steps in order, from the package `deltavcs.migrations`."""
    files = [f for f in resources.files("deltavcs.migrations").iterdir() if f.name[:4].isdigit()]
    return tuple(
        Migration(f.name.removesuffix(".sql"), f.read_text(encoding="utf-8"))
        for f in sorted(files, key=lambda f: f.name)
        if f.name.endswith(".sql")
    )


def pending(connection: duckdb.DuckDBPyConnection) -> tuple[Migration, ...]:
    """The steps that this database lacks.

    Raises:
        UnusableDatabase: its ledger is missing, knows a step that this version does not, or holds one
            whose text has changed since.
    """
    try:
        ledger = connection.execute(f"SELECT name, sha256 FROM {LEDGER} ORDER BY name").fetchall()
    except load_duckdb().Error as exc:
        raise UnusableDatabase("it has no migration ledger that can be read") from exc
    known = [(m.name, m.sha256) for m in migrations()]
    if ledger != known[: len(ledger)]:
        raise UnusableDatabase("its migrations are not those of this version")
    return migrations()[len(ledger) :]


def create(connection: duckdb.DuckDBPyConnection, steps: tuple[Migration, ...] | None = None) -> None:
    """Make the schema in an empty database."""
    connection.execute(f"CREATE TABLE {LEDGER} (name VARCHAR NOT NULL, sha256 VARCHAR NOT NULL)")
    connection.execute(f"COMMENT ON TABLE {LEDGER} IS 'Migrations that made this schema.'")
    connection.execute(f"COMMENT ON COLUMN {LEDGER}.name IS 'File name of the migration.'")
    connection.execute(f"COMMENT ON COLUMN {LEDGER}.sha256 IS 'SHA-256 of its text.'")
    apply(connection, migrations() if steps is None else steps)


def apply(connection: duckdb.DuckDBPyConnection, steps: tuple[Migration, ...]) -> None:
    """Run each step and write its ledger row in one transaction."""
    for step in steps:
        connection.execute("BEGIN")
        try:
            connection.execute(step.sql)
            connection.execute(f"INSERT INTO {LEDGER} VALUES (?, ?)", [step.name, step.sha256])
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
