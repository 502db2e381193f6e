"""A service that asks for no credentials listens only where no stranger reaches it."""

import re
from contextlib import closing, nullcontext
from typing import Any

import pytest

from promcompat.composition.network import check_listening
from promcompat.http.listening import ListenError, bind_socket
from tests.support.services.http_service import GivenSettings

ANYWHERE = "0.0.0.0"
OPEN = {"allow_unauthenticated": True}


@pytest.mark.parametrize(
    ("host", "settings", "reason"),
    [
        ("127.0.0.1", {}, None),
        ("localhost", {}, None),
        ("127.0.0.1", {"tenancy": "header"}, None),
        (ANYWHERE, {}, "access is off"),
        (ANYWHERE, OPEN, None),
        (ANYWHERE, {"access": "tokens"}, None),
        (ANYWHERE, {"access": "tokens", "tenancy": "header"}, None),
        # Everybody could name any tenant: only a gateway may be trusted with that.
        (ANYWHERE, {"tenancy": "header"}, "name any tenant"),
        (ANYWHERE, {"tenancy": "header", **OPEN}, "name any tenant"),
        (ANYWHERE, {"tenancy": "header", "access": "gateway"}, None),
        # Graphite and StatsD have no credentials, with and without access.
        ("127.0.0.1", {"graphite_listen": "localhost:2003"}, None),
        ("127.0.0.1", {"graphite_listen": ":2003"}, "GRAPHITE"),
        ("127.0.0.1", {"statsd_listen": "0.0.0.0:8125", "access": "tokens"}, "STATSD"),
        ("127.0.0.1", {"statsd_listen": "0.0.0.0:8125", "access": "tokens", **OPEN}, None),
    ],
)
def test_strangers_reach_nothing_without_a_credential(
    host: str, settings: dict[str, Any], reason: str | None
) -> None:
    # The socket is bound, and never listens.
    with closing(bind_socket(host, 0)) as bound:
        expected = nullcontext() if reason is None else pytest.raises(ListenError, match=reason)
        with expected:
            check_listening(GivenSettings(listen=f"{host}:0", **settings), bound)


@pytest.mark.parametrize(
    ("host", "fault"),
    [
        ("203.0.113.7", "cannot listen on 203.0.113.7:0: this machine does not have this address"),
        ("2001:db8::7", "cannot listen on [2001:db8::7]:0: "),
        ("no..host", "cannot listen on no..host:0: its host name cannot be resolved"),
    ],
)
def test_an_address_that_cannot_be_used_is_named_with_the_reason(host: str, fault: str) -> None:
    with pytest.raises(ListenError, match=re.escape(fault)):
        bind_socket(host, 0)
