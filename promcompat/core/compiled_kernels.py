"""The decorator of compiled kernels, and the folder where their machine code is kept.

A kernel is a hot loop over numpy arrays that numba compiles; kernels are in modules whose names end
with `_kernels`. They are compiled for the signatures they declare, when their module is first
imported: set-up does that once (`promcompat compile-kernels`), later imports load the
machine code in milliseconds, also from a folder that cannot be written. A call with other types
raises TypeError instead of compiling at a user's request.
"""

import atexit
import hashlib
import logging
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from numba.core.caching import CacheImpl, UserProvidedCacheLocator
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen

from promcompat.core.cache_folder import cache_folders, make_readable_folder

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])
signed = cast(Callable[[Any], int], np.int64)
"""A number of an array as int64, which mypy takes for int."""

_LOGGER = logging.getLogger(__name__)
_ROOT: Final = Path(__file__).parents[2]
_PACKAGES: Final = ("promcompat", "promql", "sql", "native_api")
_TEMPORARY_VARIABLE: Final = "_PROMCOMPAT_KERNELS"
"""Set for the processes that this one starts, so that they share its temporary folder."""
_WRITABLE_BY_OTHERS: Final = 0o022
_DONE: Final = "compiled"
"""An empty file that is written when all kernels are in the folder."""


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


def choose_folder(folders: Sequence[Path], key: str) -> Path:
    """Where the kernels of a key are, else where they can be kept.

    `folders` are those of the cache that may have them. They are kept in the first one, or if that
    cannot be in a private temporary one, for what this process starts too.
    """
    inherited = os.environ.get(_TEMPORARY_VARIABLE)
    if inherited:
        folder = Path(inherited) / key
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder
    places = [folder / "kernels" / key for folder in folders]
    for place in places:
        if _can_load(place):
            return place
    fault = _fault_of(places[0])
    return places[0] if fault is None else _temporary_folder(places[0], fault)


def has_all_kernels(folder: Path) -> bool:
    """Whether everything is compiled in a folder."""
    try:
        return (folder / _DONE).exists()
    except PermissionError:
        return False


def note_all_kernels(folder: Path) -> None:
    """Everything is compiled in a folder."""
    (folder / _DONE).touch()


def _can_load(folder: Path) -> bool:
    can_read = has_all_kernels(folder) and os.access(folder, os.R_OK | os.X_OK)
    return can_read and _is_trusted(folder)


def _fault_of(folder: Path) -> str | None:
    """Why kernels cannot be kept in a folder, which is made if necessary."""
    try:
        for part in (folder.parents[1], folder.parent, folder):
            make_readable_folder(part)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error.strerror or str(error)
    return None if _is_trusted(folder) else "other users can write to it"


def _is_trusted(folder: Path) -> bool:
    """Loading a kernel runs what is in its folder, so nobody else may write there."""
    state = folder.stat()
    return state.st_uid in (0, os.geteuid()) and not state.st_mode & _WRITABLE_BY_OTHERS


def _temporary_folder(instead_of: Path, fault: str) -> Path:
    """A new folder, which this process deletes when it ends."""
    base = Path(tempfile.mkdtemp(prefix="promcompat-kernels-"))
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    os.environ[_TEMPORARY_VARIABLE] = str(base)
    _LOGGER.warning(
        "kernels are compiled into a temporary folder, at each start, as the folder of compiled "
        "kernels cannot be used",
        extra={"folder": str(instead_of), "reason": fault, "temporary_folder": str(base)},
    )
    folder = base / instead_of.name
    folder.mkdir(mode=0o700)
    return folder


KERNEL_FOLDER: Final = choose_folder(cache_folders(), _cache_key())
"""Where the machine code is kept; no other user can write to it."""
setattr(numba.config, "CACHE_DIR", str(KERNEL_FOLDER))  # noqa: B010 - not declared by numba


_LIBRARY: Final[Any] = JITCodeLibrary
"""Some versions of numba declare types, none all of them."""
_LOCATOR: Final[Any] = UserProvidedCacheLocator


class _KernelLocator(_LOCATOR):  # type: ignore[misc]
    """Finds kernels where they cannot be written, too; numba's own one looks elsewhere then."""

    def ensure_cache_path(self) -> None:
        """Make the folder of a module, if there is none."""
        Path(self.get_cache_path()).mkdir(parents=True, exist_ok=True)

    def get_source_stamp(self) -> str:
        """The same for all: the name of the folder changes with the source."""
        return ""


CacheImpl._locator_classes = [_KernelLocator]


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
