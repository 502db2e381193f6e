"""Which hosts and addresses the service may call."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from promcompat.core.errors import BadDataError
from promcompat.outgoing.addresses import Address, Network, Place, is_in, place_of

_PORTS: Final = {"http": 80, "https": 443}
_NAMES: Final = {
    Place.PRIVATE: "an address of a private network or of this machine",
    Place.LOCAL_LINK: "a link-local or special address",
}


class AddressRefusedError(OSError):
    """The address of a host may not be called; raised where a connection would be made."""

    def __init__(self, reason: str) -> None:
        super().__init__(-1, reason)

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True, slots=True)
class Host:
    """The host of a URL: a name or an address, in lower case and without brackets."""

    name: str
    port: int

    @property
    def address(self) -> Address | None:
        """The address, if the host is one; None for a name."""
        try:
            return ip_address(self.name)
        except ValueError:
            return None


def host_of(url: str) -> Host:
    """The host of a URL. Raises BadDataError unless it is HTTP and names a host."""
    try:
        parts = urlsplit(url)
        name, port = parts.hostname, parts.port
    except ValueError as exc:
        raise BadDataError("the URL is not valid") from exc
    if parts.scheme not in _PORTS or not name:
        raise BadDataError("the URL must be http:// or https:// and name a host")
    return Host(name.rstrip("."), port or _PORTS[parts.scheme])


@dataclass(frozen=True, slots=True)
class AllowList:
    """Hosts that may be called: `host`, `host:port` and `*.domain`; and networks (CIDR)."""

    hosts: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, entries: Iterable[str]) -> "AllowList":
        """Read what an operator writes: an entry that is an address or network is one."""
        hosts: list[str] = []
        networks: list[Network] = []
        for entry in entries:
            try:
                networks.append(ip_network(entry, strict=False))
            except ValueError:
                hosts.append(entry.lower())
        return cls(tuple(hosts), tuple(networks))

    def __bool__(self) -> bool:
        return bool(self.hosts or self.networks)

    def names(self, host: Host) -> bool:
        """Whether one of the entries for hosts is this one."""
        return any(_matches(entry, host) for entry in self.hosts)

    def has(self, host: Host | None, address: Address) -> bool:
        """Whether one of the entries is this host, or has this address."""
        return is_in(address, self.networks) or (host is not None and self.names(host))


def _matches(entry: str, host: Host) -> bool:
    name, _, port = entry.partition(":")
    if port and port != str(host.port):
        return False
    return host.name.endswith(name[1:]) if name.startswith("*.") else host.name == name


@dataclass(frozen=True, slots=True)
class OutgoingPolicy:
    """Decides about every connection, by the host of the URL and the address that it led to.

    Where `allowed` or `only_near` has entries and `is_exclusive`, nothing else may be called. A
    host that is allowed by its name may be in a private network, and an allowed network may be any.
    Of the others, those of `only_near` included, places up to `furthest` may be called. A name that
    leads to a link-local address is refused even if it is allowed, as whoever runs its DNS could
    lead it there. `setting` is where an operator may allow what is refused.
    """

    allowed: AllowList = AllowList()
    furthest: Place = Place.LOCAL_LINK
    is_exclusive: bool = True
    only_near: AllowList = AllowList()
    setting: str = "PROMCOMPAT_OUTGOING_ALLOW"

    def check_url(self, url: str) -> Host:
        """The host of a URL that may be called, as far as the URL tells.

        Raises BadDataError.
        """
        host = host_of(url)
        address = host.address
        if address is not None:
            try:
                self.check_address(host, address)
            except AddressRefusedError as exc:
                raise BadDataError(str(exc)) from exc
        elif self._is_closed and not self._may_be_allowed(host):
            raise BadDataError(f"the host {host.name}:{host.port} is not allowed")
        return host

    def check_address(self, host: Host | None, address: Address) -> None:
        """Raises AddressRefusedError unless this host may be called at this address."""
        if is_in(address, self.allowed.networks):
            return
        is_named = host is not None and self.allowed.names(host)
        if self._is_closed and not is_named and not self.only_near.has(host, address):
            raise AddressRefusedError(f"the address {address} is not allowed; {self._remedy}")
        place = place_of(address)
        furthest = self.furthest
        if is_named and furthest < Place.PRIVATE:
            furthest = Place.PRIVATE
        if place > furthest:
            raise AddressRefusedError(f"{address} is {_NAMES[place]}; {self._remedy}")

    def _may_be_allowed(self, host: Host) -> bool:
        """Whether a list has the name, or networks, in which its address may be."""
        lists = (self.allowed, self.only_near)
        return any(one.names(host) or one.networks for one in lists)

    @property
    def _is_closed(self) -> bool:
        return self.is_exclusive and bool(self.allowed or self.only_near)

    @property
    def _remedy(self) -> str:
        return f"list it in {self.setting} if it may be called"


ANYWHERE: Final = OutgoingPolicy()
"""Refuses nothing."""
