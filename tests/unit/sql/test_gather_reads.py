"""The reads of one query: in order, some at a time, all ended by the first failure."""

import asyncio

import pytest

from sql.samples.reading.reader import gather_reads


class Reads:
    """Reads that wait until they are let go; `under_way` and `most` count them."""

    def __init__(self) -> None:
        self.under_way = 0
        self.most = 0

    async def read(self, number: int) -> int:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0)
            if number == 13:
                raise ZeroDivisionError
            return number * number
        finally:
            self.under_way -= 1


async def test_results_are_in_order_and_few_reads_run_at_once() -> None:
    reads = Reads()
    numbers = range(100, 200)
    assert await gather_reads(reads.read, numbers) == [number * number for number in numbers]
    assert reads.most == 8


async def test_first_failure_ends_all_reads() -> None:
    reads = Reads()
    with pytest.raises(ZeroDivisionError):
        await gather_reads(reads.read, range(100))
    assert reads.under_way == 0


async def test_nothing_to_read() -> None:
    assert await gather_reads(Reads().read, []) == []
