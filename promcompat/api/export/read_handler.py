"""`POST /api/v1/read`: remote read, as samples or as a stream of XOR chunks."""

from typing import Final

import snappy
from aiohttp import hdrs, web

from promcompat.api.envelope import text_error
from promcompat.api.query_parsing import limited_in_thread, time_limit
from promcompat.api.streamed_response import ended_or_cut, joined_pieces, new_stream
from promcompat.core.errors import BadDataError, PromcompatError
from promcompat.core.model import SampleBlock, SeriesSelection
from promcompat.http.bodies import BODIES, held_by, work_of
from promcompat.http.context import SETTINGS, services_of, tenant_of
from promcompat.remote_read.answers import CHUNKS_TYPE, SAMPLES_TYPE, chunk_frames, samples_answer
from promcompat.remote_read.requests import AnswerForm, RemoteRead, decode_read_request
from promcompat.remote_write.snappy_block import checked_length, unpack

MAX_SAMPLES: Final = 10_000_000
"""Of an answer that is not streamed, which is held in memory twice. Prometheus has 50 million."""


async def handle_read(request: web.Request) -> web.StreamResponse:
    """Answer every query of the request; errors are plain text, which clients log."""
    tenant = tenant_of(request)
    try:
        asked = await _read_request(request)
        if asked.form is AnswerForm.SAMPLES:
            return await _answer_samples(request, tenant, asked)
        return await _stream_chunks(request, tenant, asked)
    except PromcompatError as exc:
        return text_error(exc)


async def _read_request(request: web.Request) -> RemoteRead:
    settings, bodies = request.app[SETTINGS], request.app[BODIES]
    body = await bodies.read(request, settings.write_max_body_bytes)
    n_bytes = checked_length(body, settings.write_max_decoded_bytes)
    held_by(request).take(n_bytes)
    limit = time_limit(request)
    # In a thread even if it is short: each matcher may have a regular expression that takes long.
    return await limited_in_thread(
        request, limit, lambda: decode_read_request(unpack(body), limit.check_time)
    )


async def _answer_samples(request: web.Request, tenant: str, asked: RemoteRead) -> web.Response:
    selections = [selection for selection in asked.selections if selection is not None]
    async with services_of(request).queries.reading(tenant, selections) as found:
        left = iter(found)
        blocks = [SampleBlock.empty() if at is None else next(left) for at in asked.selections]
        # The same samples take memory again for each query that selects them.
        if sum(len(block.timestamps) for block in blocks) > MAX_SAMPLES:
            raise BadDataError(
                f"exceeded sample limit ({MAX_SAMPLES}); ask for a shorter time, or for "
                "streamed chunks, which have no limit of their own"
            )
        body = await work_of(request).in_thread(lambda: snappy.compress(samples_answer(blocks)))
    headers = {hdrs.CONTENT_TYPE: SAMPLES_TYPE, hdrs.CONTENT_ENCODING: "snappy"}
    return web.Response(body=body, headers=headers)


async def _stream_chunks(
    request: web.Request, tenant: str, asked: RemoteRead
) -> web.StreamResponse:
    """The queries one after another."""
    response = new_stream(request, CHUNKS_TYPE)
    async with ended_or_cut(request, response, "a remote read was cut"):
        for index, selection in enumerate(asked.selections):
            await _stream_query(request, response, tenant, selection, index)
        if not response.prepared:
            await response.prepare(request)
    return response


async def _stream_query(
    request: web.Request,
    response: web.StreamResponse,
    tenant: str,
    selection: SeriesSelection | None,
    query_index: int,
) -> None:
    if selection is None:
        return
    async with services_of(request).queries.reading(tenant, [selection]) as blocks:
        frames = (frame for block in blocks for frame in chunk_frames(block, query_index))
        pieces = joined_pieces(frames)
        threads = work_of(request)
        piece = await threads.in_thread(next, pieces, b"")
        if not response.prepared:
            await response.prepare(request)
        while piece:
            await response.write(piece)
            piece = await threads.in_thread(next, pieces, b"")
