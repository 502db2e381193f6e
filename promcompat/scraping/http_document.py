"""Reads how targets and service discoveries are asked: authorization, TLS, headers, redirects."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from promcompat.core.errors import BadDataError
from promcompat.core.texts.yaml_nodes import StrictReader
from promcompat.outgoing.policy import host_of
from promcompat.scraping.configuration import HttpConfig, OAuth2Config, Secret, TlsConfig
from promcompat.scraping.document_keys import (
    AUTHORIZATION,
    BASIC_AUTH,
    HEADER,
    OAUTH2,
    TLS,
    explaining,
)

_Fields = Mapping[str, yaml.Node]


def read_http(reader: StrictReader, fields: _Fields, folder: Path) -> HttpConfig:
    """What the fields of a job or a discovery say; other fields than those of HTTP are left."""
    return _HttpReader(reader, folder).read(fields)


def is_http_url(url: str) -> bool:
    """Whether a URL is HTTP and names a host."""
    try:
        host_of(url)
    except BadDataError:
        return False
    return True


class _HttpReader:
    def __init__(self, reader: StrictReader, folder: Path) -> None:
        self._reader = reader
        self._folder = folder

    def read(self, fields: _Fields) -> HttpConfig:
        self._check_one_way(fields)
        basic = self._fields(fields.get("basic_auth"), BASIC_AUTH, "basic_auth")
        granted = self._fields(fields.get("authorization"), AUTHORIZATION, "authorization")
        token = self._secret(fields, "bearer_token")
        kind = self._reader.text(granted.get("type")) or "Bearer"
        if kind.lower() == "basic":
            self._reader.refuse(
                granted["type"], 'authorization type cannot be "basic"; use basic_auth'
            )
        redirects = fields.get("follow_redirects")
        return HttpConfig(
            username=self._secret(basic, "username"),
            password=self._secret(basic, "password"),
            authorization_type=kind,
            credentials=token or self._secret(granted, "credentials"),
            tls=self._tls(fields.get("tls_config")),
            follow_redirects=redirects is None or self._reader.boolean(redirects),
            proxy_url=self._reader.text(fields.get("proxy_url")),
            headers=self._headers(fields.get("http_headers")),
            oauth2=self._oauth2(fields["oauth2"]) if "oauth2" in fields else None,
        )

    def _oauth2(self, node: yaml.Node) -> OAuth2Config:
        fields, reader = self._fields(node, OAUTH2, "oauth2"), self._reader
        token_url = reader.text(fields.get("token_url"))
        for name, wanted in (("client_id", "the id of a client"), ("token_url", "a URL")):
            if not reader.text(fields.get(name)):
                reader.refuse(node, f"oauth2 needs {wanted} as {name}")
        if token_url and not is_http_url(token_url):
            reader.refuse(
                fields["token_url"], "the token_url is not http://host/… or https://host/…"
            )
        return OAuth2Config(
            client_id=reader.text(fields.get("client_id")),
            client_secret=self._secret(fields, "client_secret"),
            token_url=token_url,
            scopes=self._texts(fields, "scopes"),
            endpoint_params=reader.texts(fields.get("endpoint_params")),
            tls=self._tls(fields.get("tls_config")),
            proxy_url=reader.text(fields.get("proxy_url")),
        )

    def _fields(self, node: yaml.Node | None, names: frozenset[str], place: str) -> _Fields:
        return self._reader.fields(node, names, place, explaining(place, names))

    def _check_one_way(self, fields: _Fields) -> None:
        ways = [
            name
            for name in (
                "basic_auth",
                "authorization",
                "bearer_token",
                "bearer_token_file",
                "oauth2",
            )
            if name in fields
        ]
        if len(ways) > 1:
            reason = f"at most one of {', '.join(ways)} must be configured"
            self._reader.refuse(fields[ways[1]], reason)

    def _secret(self, fields: _Fields, name: str) -> Secret:
        """A text, or the file of the key with `_file` behind it."""
        text = self._reader.text(fields.get(name))
        file = self._reader.text(fields.get(f"{name}_file"))
        if text and file:
            node = fields[f"{name}_file"]
            self._reader.refuse(node, f"at most one of {name} and {name}_file must be configured")
        return Secret(text=text, file=self._folder / file if file else None)

    def _tls(self, node: yaml.Node | None) -> TlsConfig:
        fields, reader = self._fields(node, TLS, "tls_config"), self._reader
        return TlsConfig(
            ca=self._secret(fields, "ca"),
            cert=self._secret(fields, "cert"),
            key=self._secret(fields, "key"),
            server_name=reader.text(fields.get("server_name")),
            insecure_skip_verify=reader.boolean(fields.get("insecure_skip_verify")),
            min_version=self._version(fields.get("min_version")),
            max_version=self._version(fields.get("max_version")),
        )

    def _version(self, node: yaml.Node | None) -> str:
        text, known = self._reader.text(node), ("TLS10", "TLS11", "TLS12", "TLS13")
        if node is not None and text not in known:
            self._reader.refuse(node, f"{text!r} is not one of: {', '.join(known)}")
            return ""
        return text

    def _headers(self, node: yaml.Node | None) -> Mapping[str, Sequence[Secret]]:
        found = self._reader.mapping(node, "http_headers")
        return {name: self._header(value) for name, value in found.items()}

    def _header(self, node: yaml.Node) -> Sequence[Secret]:
        reader, fields = self._reader, self._fields(node, HEADER, "a header")
        texts = [*self._texts(fields, "values"), *self._texts(fields, "secrets")]
        files = [self._folder / name for name in self._texts(fields, "files")]
        if not texts and not files:
            reader.refuse(node, "a header needs values, secrets or files")
        return [*(Secret(text=text) for text in texts), *(Secret(file=file) for file in files)]

    def _texts(self, fields: _Fields, name: str) -> list[str]:
        return [self._reader.text(item) for item in self._reader.items(fields.get(name), name)]
