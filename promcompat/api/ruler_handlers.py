"""The ruler API of Mimir and Cortex: groups of rules as YAML, as Grafana and mimirtool use it."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import orjson
from aiohttp import web

from promcompat.alerting.rule_files.rule_document import GroupDocument, RuleFileError, read_group
from promcompat.alerting.rule_files.rule_writer import group_value, namespaces_value, yaml_text
from promcompat.api.envelope import text_error, text_response
from promcompat.core.errors import BadDataError, NotFoundError
from promcompat.core.texts.storable_text import text_fault
from promcompat.core.texts.yaml_nodes import YamlError, first_document
from promcompat.http.bodies import BODIES, work_of
from promcompat.http.context import services_of, tenant_of

_BYTES_EACH: Final = 1_000
"""About, of a rule; writing it takes a tenth of a millisecond."""
_MAX_GROUP_BYTES: Final = 4 << 20
_ACCEPTED: Final = orjson.dumps({"status": "success", "data": None, "errorType": "", "error": ""})
_NO_GROUP: Final = "group does not exist"
_NO_NAMESPACE: Final = "group namespace does not exist"

Handler = Callable[[web.Request], Awaitable[web.Response]]


def _plain_errors(handler: Handler) -> Handler:
    """Answer errors of a handler as text, as Mimir does."""

    async def handle(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except RuleFileError as exc:
            return text_response(400, ", ".join(exc.faults) + "\n")
        except (NotFoundError, BadDataError) as exc:
            return text_error(exc)

    return handle


def _namespace_of(request: web.Request) -> str:
    """The namespace in the path, whose slashes are escaped there."""
    return _storable(request.match_info["namespace"])


def _storable(name: str) -> str:
    if found := text_fault(name):
        raise BadDataError(f"the name {found}")
    return name


async def _yaml(request: web.Request, n_rules: int, value: Callable[[], object]) -> web.Response:
    """So many rules as YAML."""
    text = await work_of(request).work(n_rules * _BYTES_EACH, lambda: yaml_text(value()).encode())
    return web.Response(body=text, content_type="application/yaml")


def _accepted() -> web.Response:
    return web.Response(status=202, body=_ACCEPTED, content_type="application/json")


@_plain_errors
async def handle_list_groups(request: web.Request) -> web.Response:
    """The groups of all namespaces, or of the one in the path."""
    namespace = _namespace_of(request) if "namespace" in request.match_info else None
    service = services_of(request).rule_groups
    found = await service.groups(tenant_of(request), namespace)
    n_rules = sum(len(group.rules) for groups in found.values() for group in groups)
    return await _yaml(request, n_rules, partial(namespaces_value, found))


@_plain_errors
async def handle_get_group(request: web.Request) -> web.Response:
    """One group."""
    namespace, name = _namespace_of(request), request.match_info["group"]
    found = await services_of(request).rule_groups.groups(tenant_of(request), namespace)
    for group in found.get(namespace, ()):
        if group.name == name:
            return await _yaml(request, len(group.rules), partial(group_value, group))
    raise NotFoundError(_NO_GROUP)


@_plain_errors
async def handle_store_group(request: web.Request) -> web.Response:
    """Create a group in a namespace, or replace the one of that name."""
    tenant, namespace = tenant_of(request), _namespace_of(request)
    service = services_of(request).rule_groups
    body = await request.app[BODIES].read(request, _MAX_GROUP_BYTES)
    group = await work_of(request).parse(len(body), _parse_group, body)
    await service.store_group(tenant, namespace, group)
    return _accepted()


@_plain_errors
async def handle_delete_groups(request: web.Request) -> web.Response:
    """Delete one group, or a namespace with all of its groups."""
    namespace = _namespace_of(request)
    group = _storable(request.match_info["group"]) if "group" in request.match_info else None
    service = services_of(request).rule_groups
    if not await service.delete(tenant_of(request), namespace, group):
        raise NotFoundError(_NO_NAMESPACE if group is None else _NO_GROUP)
    return _accepted()


def _parse_group(body: bytes) -> GroupDocument:
    """Raises BadDataError with Mimir's texts."""
    try:
        group = read_group(first_document(body.decode()))
    except (YamlError, UnicodeDecodeError) as exc:
        raise BadDataError(f"unable to decode rule group: {exc}") from exc
    if not group.name:
        raise BadDataError("invalid rules configuration: rule group name must not be empty")
    if not group.rules:
        raise BadDataError(f"invalid rules configuration: rule group '{group.name}' has no rules")
    return group
