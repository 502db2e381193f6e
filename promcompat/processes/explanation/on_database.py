"""An explanation without a service: this process plans the query on the database."""

from collections.abc import Mapping
from typing import Any

from promcompat.api.explain_handlers import read_depth, read_explained_query
from promcompat.api.explanation_json import explanation_json
from promcompat.api.forms import Form
from promcompat.composition.services import build_query_service
from promcompat.composition.storage import open_storage
from promcompat.configuration.settings import Settings
from promcompat.database import NONE
from promcompat.http.context import DEFAULT_TENANT


async def explain_on_database(
    settings: Settings, tenant: str | None, parameters: Mapping[str, str]
) -> Any:
    """What a service with these settings would answer. Raises PromcompatError."""
    form = Form(parameters.items())
    # Nobody waits at a terminal for a database to start, as a service does.
    async with open_storage(settings, NONE) as storage:
        service = build_query_service(settings, storage)
        query = read_explained_query(
            form, DEFAULT_TENANT if tenant is None else tenant, service.now_ms()
        )
        return explanation_json(await service.explain(query, read_depth(form)))
