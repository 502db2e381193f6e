"""A PostgreSQL cluster on disk: making one, and running its administrative programs."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from sql.embedded.distributions import PostgresDistribution
from sql.embedded.errors import EmbeddedDatabaseError
from sql.embedded.server_account import ServerAccount
from sql.embedded.server_settings import render_settings

SUPERUSER = "postgres"
OWNER_ROLE = "promcompat"
"""Owns the database and the schema: migrations, grants to readers, backups."""
SERVICE_ROLE = "promcompat_service"
"""Reads and writes rows; see the routine `grant_service_role`."""
DATABASE_NAME = "promcompat"
RESTORED_NAME = "promcompat_restored"
"""What a restore fills, before it takes the place of the database."""

_SETTINGS_FILE = "promcompat.conf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The data directory of one PostgreSQL server (PGDATA) and the programs that serve it."""

    folder: Path
    distribution: PostgresDistribution
    account: ServerAccount
    password: str
    """Of the superuser. Nobody but this launcher has it; the other roles have their own."""

    def run_program(
        self, name: str, *arguments: str, stdin: str = "", secrets: Mapping[str, str] | None = None
    ) -> str:
        """Run a program of the distribution as the server's account and return its output.

        Secrets travel in the environment, because every account can read an argument list.

        Raises:
            EmbeddedDatabaseError: it failed; the message has its last lines.
        """
        result = subprocess.run(
            self.command(name, *arguments),
            cwd="/",
            env={**self.environment(), **(secrets or {})},
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if result.returncode != 0:
            complaint = " / ".join(result.stderr.strip().splitlines()[-3:])
            raise EmbeddedDatabaseError(f"{name} failed: {complaint}")
        return result.stdout

    def run_sql(
        self,
        port: int,
        *arguments: str,
        database: str = "postgres",
        script: str = "",
        secrets: Mapping[str, str] | None = None,
    ) -> str:
        """Run psql as superuser against the running server, without the user's psqlrc.

        A script may read `secrets` with `\\getenv`.
        """
        address = ("-h", "127.0.0.1", "-p", str(port), "-U", SUPERUSER, "-d", database)
        return self.run_program(
            "psql",
            "-qXAt",
            *address,
            *arguments,
            stdin=script,
            secrets={**(secrets or {}), "PGPASSWORD": self.password},
        )

    def command(self, name: str, *arguments: str) -> Sequence[str]:
        return [*self.account.command_prefix, self.distribution.program(name), *arguments]

    def environment(self) -> dict[str, str]:
        """A small, fixed environment: PG* variables of the user must not steer the server."""
        path = os.environ.get("PATH", os.defpath)
        return {"PATH": path, "HOME": str(self.folder), "LC_ALL": "C"}

    def initialize(self) -> None:
        """Make the cluster in its folder, which must be absent or empty.

        Its parent must exist. Checksums are on, so that damaged pages are errors, not values.
        """
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.account.take_ownership(self.folder)
        password_file = self.folder.with_name(f"{self.folder.name}.password")
        try:
            self._write_private_file(password_file, self.password + "\n")
            self.run_program(
                "initdb",
                f"--pgdata={self.folder}",
                f"--username={SUPERUSER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--data-checksums",
                "--no-instructions",
            )
        finally:
            password_file.unlink(missing_ok=True)
        with (self.folder / "postgresql.conf").open("a", encoding="utf-8") as configuration:
            configuration.write(
                f"\n# Rewritten by promcompat at every start; settings below it win.\n"
                f"include '{_SETTINGS_FILE}'\n"
            )

    def bootstrap(self, port: int, owner_password: str) -> None:
        """Make the owner's role and the database on the running, freshly initialised server."""
        has_timescaledb = self.distribution.timescaledb_version is not None
        script = files("sql.embedded").joinpath("bootstrap.sql").read_text(encoding="utf-8")
        # From standard input, because the server's account may not reach this checkout.
        self.run_sql(
            port,
            *("-v", f"has_timescaledb={int(has_timescaledb)}", "-f", "-"),
            script=script,
            secrets={"PROMCOMPAT_PASSWORD": owner_password},
        )

    def make_service_role(self, port: int, password: str) -> None:
        """Make the service's role, if there is none, and give it this password."""
        script = files("sql.embedded").joinpath("service_role.sql").read_text(encoding="utf-8")
        self.run_sql(
            port,
            *("-v", f"role={SERVICE_ROLE}", "-v", f"database={DATABASE_NAME}", "-f", "-"),
            script=script,
            secrets={"PROMCOMPAT_PASSWORD": password},
        )

    def finish_restore(self, port: int) -> None:
        """Let a restored database take the place of the one that was dropped for it.

        Drops what a restore has filled if the database is there: that restore did not complete.
        """
        script = files("sql.embedded").joinpath("finish_restore.sql").read_text(encoding="utf-8")
        self.run_sql(
            port,
            *("-v", f"database={DATABASE_NAME}", "-v", f"restored={RESTORED_NAME}", "-f", "-"),
            script=script,
        )

    def set_superuser_password(self, port: int, password: str) -> None:
        """Give the superuser another password than the one this object knows."""
        self.run_sql(
            port,
            *("-f", "-"),
            script=f"\\getenv password PROMCOMPAT_PASSWORD\n"
            f"\\set ON_ERROR_STOP on\nALTER ROLE {SUPERUSER} PASSWORD :'password';\n",
            secrets={"PROMCOMPAT_PASSWORD": password},
        )

    def write_settings(self, settings: Mapping[str, str]) -> None:
        """Replace the settings that the server reads at its next start."""
        self._write_private_file(self.folder / _SETTINGS_FILE, render_settings(settings))

    def read_major(self) -> int | None:
        """Return the major version that made the folder, None without a cluster."""
        version_file = self.folder / "PG_VERSION"
        if not version_file.is_file():
            return None
        text = version_file.read_text(encoding="ascii", errors="replace").strip()
        return int(text) if text.isdecimal() else None

    def remove(self) -> None:
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _write_private_file(self, path: Path, text: str) -> None:
        """Write a file that only the server's account may read.

        The folder may belong to that account while this process is root: the new name is made
        exclusively and renamed into place, which follows no symbolic link.
        """
        fresh = path.with_name(f"{path.name}.new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        self.account.take_ownership(fresh)
        fresh.replace(path)
