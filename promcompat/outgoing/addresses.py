"""What kind of place an IP address is."""

from enum import IntEnum
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Place(IntEnum):
    """Where an address leads; a higher number is more dangerous to call in a stranger's name."""

    PUBLIC = 0
    PRIVATE = 1
    """In a private network, or on this machine."""
    LOCAL_LINK = 2
    """Link-local, where clouds have the credentials of a machine, and what is no host at all."""


_METADATA: Final = frozenset(
    map(ip_address, ("169.254.169.254", "fd00:ec2::254", "168.63.129.16", "100.100.100.200"))
)
"""Where clouds answer with credentials of the machine; not all of these are link-local."""
_TRANSLATED: Final = ip_network("64:ff9b::/96")
"""An IPv4 address by way of NAT64; `::ffff:0:0/96` is known to the standard library."""
_TUNNELS: Final = tuple(
    map(ip_network, ("64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96", "fec0::/10"))
)
"""Prefixes that may carry any IPv4 address, and site-local addresses: no public host needs them.
Python takes some of them for global addresses."""
_SPECIAL: Final = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24")))


def plain_address(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, if it does so openly."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _TRANSLATED:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def place_of(address: Address) -> Place:
    """Where an address leads."""
    plain = plain_address(address)
    if plain in _METADATA or plain.is_link_local or plain.is_multicast or plain.is_unspecified:
        return Place.LOCAL_LINK
    if plain.is_loopback:
        return Place.PRIVATE
    if any(plain in network for network in (*_TUNNELS, *_SPECIAL)):
        return Place.LOCAL_LINK
    if plain.is_reserved:
        return Place.LOCAL_LINK
    return Place.PUBLIC if plain.is_global else Place.PRIVATE


def is_in(address: Address, networks: tuple[Network, ...]) -> bool:
    """Whether an address, or the one it stands for, is in one of the networks."""
    return any(one in network for one in (address, plain_address(address)) for network in networks)
