"""The decorator of compiled kernels, and the folder where their machine code is kept.

A kernel is a hot loop over numpy arrays that numba compiles; kernels are in modules whose names end
with `_kernels`. They are compiled for the signatures they declare, when their module is first
imported: set-up does that once (`promcompat compile-kernels`), later imports load the
machine code in milliseconds. A call with other types raises TypeError instead of compiling at a
user's request.
"""

import atexit
import hashlib
import logging
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen

from promcompat.core.cache_folder import default_cache_folder, make_readable_folder

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])
signed = cast(Callable[[Any], int], np.int64)
"""A number of an array as int64, which mypy takes for int."""

_LOGGER = logging.getLogger(__name__)
_ROOT: Final = Path(__file__).parents[2]
_PACKAGES: Final = ("promcompat", "promql", "sql", "native_api")
_TEMPORARY_VARIABLE: Final = "_PROMCOMPAT_KERNELS"
"""Set for the processes that this one starts, so that they share its temporary folder."""
_WRITABLE_BY_OTHERS: Final = 0o022


def kernel_modules() -> list[str]:
    """The names of all modules with kernels, sorted."""
    return [
        ".".join(path.relative_to(_ROOT).with_suffix("").parts)
        for path in _kernel_sources()
        if path != Path(__file__)
    ]


def _kernel_sources() -> list[Path]:
    return sorted(path for name in _PACKAGES for path in (_ROOT / name).rglob("*_kernels.py"))


def _cache_key() -> str:
    """Changes with everything that the machine code depends on.

    numba compares only the file of a kernel itself: it does not notice a changed helper in another
    file. It puts functions into folders named after the path of their file.
    """
    digest = hashlib.blake2b(digest_size=8)
    for path in _kernel_sources():
        digest.update(f"{path}\0".encode() + path.read_bytes())
    parts = (
        numba.__version__,
        llvmlite.__version__,
        np.__version__,
        sys.version,
        platform.machine(),
        llvmlite.binding.get_host_cpu_name(),
        llvmlite.binding.get_host_cpu_features().flatten(),
        str(vars(numba.config)["BOUNDSCHECK"]),
    )
    digest.update("\0".join(parts).encode())
    return digest.hexdigest()


def choose_folder(cache_folder: Path, key: str) -> Path:
    """A folder of the cache, else a private temporary one, for what this process starts too."""
    inherited = os.environ.get(_TEMPORARY_VARIABLE)
    if inherited:
        folder = Path(inherited) / key
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder
    folder = cache_folder / "kernels" / key
    fault = _fault_of(folder)
    return folder if fault is None else _temporary_folder(folder, fault)


def _fault_of(folder: Path) -> str | None:
    """Why a folder, which is made if necessary, cannot be used."""
    try:
        make_readable_folder(folder.parents[1])
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error.strerror or str(error)
    return None if _is_trusted(folder) else "other users can write to it"


def _is_trusted(folder: Path) -> bool:
    """Loading a kernel runs what is in its folder, so nobody else may write there."""
    state = folder.stat()
    return state.st_uid in (0, os.geteuid()) and not state.st_mode & _WRITABLE_BY_OTHERS


def _temporary_folder(instead_of: Path, fault: str) -> Path:
    """A new folder with what is already compiled; this process deletes it when it ends."""
    base = Path(tempfile.mkdtemp(prefix="promcompat-kernels-"))
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    os.environ[_TEMPORARY_VARIABLE] = str(base)
    _LOGGER.warning(
        "the folder of compiled kernels cannot be used; they are kept in a temporary one",
        extra={"folder": str(instead_of), "reason": fault, "temporary_folder": str(base)},
    )
    folder = base / instead_of.name
    with suppress(OSError, shutil.Error):
        if _is_trusted(instead_of):
            shutil.copytree(instead_of, folder)
    folder.mkdir(exist_ok=True)
    folder.chmod(0o700)
    return folder


KERNEL_FOLDER: Final = choose_folder(default_cache_folder(), _cache_key())
"""Where the machine code is kept; no other user can write to it."""
setattr(numba.config, "CACHE_DIR", str(KERNEL_FOLDER))  # noqa: B010 - not declared by numba


_LIBRARY: Final[Any] = JITCodeLibrary
"""Some versions of numba declare types, none all of them."""


class _KernelLibrary(_LIBRARY):  # type: ignore[misc]
    """The machine code of a kernel, and how LLVM reads it again to compile another kernel with it.

    numba keeps the latter as a module of LLVM, which takes ten times as much memory as its bitcode:
    28 MB of all kernels together, and few processes compile any.
    """

    _bitcode: bytes | None = None

    @classmethod
    def _unserialize(cls, codegen: Any, state: tuple[str, str, Any]) -> Any:
        """Load a kernel from the cache."""
        library = super()._unserialize(codegen, state)
        _, kind, data = state
        if kind == "object":
            library._bitcode, library._shared_module = data[1], None
        return library

    def _get_module_for_linking(self) -> Any:
        """The module, for a kernel that is compiled with this one."""
        if self._bitcode is not None:
            self._shared_module = llvmlite.binding.parse_bitcode(self._bitcode)
            self._bitcode = None
        return super()._get_module_for_linking()


JITCPUCodegen._library_class = _KernelLibrary


def kernel(*signatures: str, allocates: bool = True) -> Callable[[FunctionT], FunctionT]:
    """Compile a function for these signatures, in numba's notation, releasing the GIL.

    Without a signature the function is for other kernels only, and compiled with them. A kernel
    that makes no arrays says so with `allocates=False`, as do all that it calls: its arrays are not
    counted by reference then, which costs up to 50 ns for each call between kernels.
    """

    def compiled(function: FunctionT) -> FunctionT:
        declared = list(signatures) or None
        # A division by zero gives an infinity or NaN, as in numpy, instead of an exception.
        options: dict[str, Any] = {"error_model": "numpy", "_nrt": allocates}
        return cast(FunctionT, numba.njit(declared, nogil=True, cache=True, **options)(function))

    return compiled
