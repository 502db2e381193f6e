"""What `promcompat sql` says where it cannot open psql."""

from pathlib import Path

import pytest

from promcompat.configuration.settings import Settings
from promcompat.processes.sql_shell import SqlCommandError, psql_command


@pytest.mark.parametrize("address", ["postgresql://u:p@127.0.0.1:port/x", "postgresql://[u/x"])
def test_an_address_of_the_own_database_that_is_none_is_an_error(
    tmp_path: Path, address: str
) -> None:
    (tmp_path / "owner-url").write_text(address, encoding="utf-8")
    (tmp_path / "database-url").write_text(address, encoding="utf-8")
    with pytest.raises(SqlCommandError, match=r"address of the database in .* is not valid"):
        psql_command(Settings(data_dir=tmp_path, database_url=None), [])
