"""The decorator of compiled kernels, and the folder where their machine code is kept.

A kernel is a hot loop over numpy arrays that numba compiles; kernels are in modules whose names end
with `_kernels`. They are compiled for the signatures they declare, when their module is first
imported: set-up does that once, later imports load the machine code in milliseconds. A call with
other types raises TypeError instead of compiling at a user's request.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar, cast

import llvmlite
import numba
import numpy as np

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])
_ROOT: Final = Path(__file__).parents[2]
_PACKAGES: Final = ("promcompat", "promql", "sql", "native_api")


def kernel_sources() -> list[Path]:
    """The modules of all kernels, sorted."""
    return sorted(path for name in _PACKAGES for path in (_ROOT / name).rglob("*_kernels.py"))


def _cache_key() -> str:
    """Changes with any kernel: numba does not notice a changed helper in another file."""
    digest = hashlib.blake2b(digest_size=8)
    for path in kernel_sources():
        digest.update(path.read_bytes())
    for version in (numba.__version__, llvmlite.__version__, np.__version__):
        digest.update(version.encode())
    return digest.hexdigest()


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "promcompat" / "kernels" / _cache_key()


setattr(numba.config, "CACHE_DIR", str(_cache_folder()))  # noqa: B010 - not declared by numba


def kernel(*signatures: str) -> Callable[[FunctionT], FunctionT]:
    """Compile a function for these signatures, in numba's notation, releasing the GIL.

    Without a signature the function is for other kernels only, and compiled with them.
    """

    def compiled(function: FunctionT) -> FunctionT:
        declared = list(signatures) or None
        return cast(FunctionT, numba.njit(declared, nogil=True, cache=True)(function))

    return compiled
