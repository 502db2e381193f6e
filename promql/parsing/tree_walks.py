"""Walks over syntax trees of any depth.

None of them recurses: generated queries chain thousands of operators, each of which nests the tree
by one more level, and Python's stack ends at 1,000 calls.
"""

from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

from promql.parsing.ast import Expr, children

T = TypeVar("T")
RequestT = TypeVar("RequestT")

Nested = Generator[RequestT, T, T]
"""A computation in progress: yields what it needs computed first, is sent that, returns its own."""


def walk(expr: Expr) -> Iterator[Expr]:
    """Every node under `expr` and itself: parents before children, in the order of the text."""
    waiting = [expr]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(children(node)))


def fold(expr: Expr, combine: Callable[[Expr, list[T]], T]) -> T:
    """What `combine` makes of `expr` and of what it made of the children, from the leaves up."""
    made: dict[int, T] = {}
    for node in reversed(list(walk(expr))):
        made[id(node)] = combine(node, [made.pop(id(child)) for child in children(node)])
    return made[id(expr)]


def run_nested(begin: Callable[[RequestT], Nested[RequestT, T]], request: RequestT) -> T:
    """The result of `begin(request)`; what it asks for is begun and answered the same way.

    The computations wait on a list and not on the stack of calls. An error of any of them ends all.
    """
    waiting = [begin(request)]
    answer: T | None = None
    while True:
        try:
            # None starts a generator; what was asked for is the answer to go on with.
            asked = waiting[-1].send(answer)  # type: ignore[arg-type]
        except StopIteration as done:
            answer = done.value
            waiting.pop()
            if not waiting:
                return done.value  # type: ignore[no-any-return]
        else:
            answer = None
            waiting.append(begin(asked))
