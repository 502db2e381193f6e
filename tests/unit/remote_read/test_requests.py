"""How long decoding a remote read request may take."""

import pytest

from promcompat.core.errors import QueryTimeoutError
from promcompat.remote_read.remote_read_pb2 import LabelMatcher, Query, ReadRequest
from promcompat.remote_read.requests import decode_read_request

MATCHERS = [LabelMatcher(type=2, name=b"a", value=b"b|%d" % number) for number in range(3)]


def test_time_is_checked_before_each_expression_is_compiled() -> None:
    n_left = 5

    def check_time() -> None:
        nonlocal n_left
        n_left -= 1
        if n_left < 0:
            raise QueryTimeoutError("query timed out")

    message = ReadRequest(queries=[Query(matchers=MATCHERS)] * 2).SerializeToString()
    with pytest.raises(QueryTimeoutError):
        decode_read_request(message, check_time)
    assert n_left == -1
