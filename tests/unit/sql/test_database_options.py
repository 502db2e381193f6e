"""How the pools of a process share the connections that the database allows."""

from dataclasses import fields

import pytest

from sql.database.database import LEAST_CONNECTIONS, DatabaseOptions


def test_pools_together_have_no_more_than_is_allowed_and_two_each() -> None:
    wanted = DatabaseOptions()
    for allowed in range(LEAST_CONNECTIONS, wanted.most_connections + 2):
        fitted = wanted.within(allowed)
        sizes = [getattr(fitted, f.name) for f in fields(fitted) if f.name.endswith("connections")]
        assert min(sizes) >= 2
        assert fitted.most_connections <= allowed
    assert fitted == wanted
    with pytest.raises(ValueError, match="12 connections"):
        wanted.within(LEAST_CONNECTIONS - 1)
