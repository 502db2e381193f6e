"""Several top-level packages, one distribution: nothing foreign may stand in for one of them.

PyPI has distributions that install top-level packages named `sql` and `promql`.
"""

import importlib
import importlib.metadata
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).parents[2]
_PACKAGES = sorted(
    path.parent.name
    for path in _CHECKOUT.glob("*/__init__.py")
    if path.parent.name not in {"tests", "conformance"}
)


def test_the_packages_are_found() -> None:
    assert {"promcompat", "native_api", "promql", "sql"} <= set(_PACKAGES)


@pytest.mark.parametrize("name", _PACKAGES)
def test_package_is_imported_from_this_checkout(name: str) -> None:
    module_file = importlib.import_module(name).__file__
    assert module_file is not None
    assert Path(module_file).parent.parent == _CHECKOUT


@pytest.mark.parametrize("name", _PACKAGES)
def test_package_comes_from_our_distribution_alone(name: str) -> None:
    assert set(importlib.metadata.packages_distributions()[name]) == {"promcompat"}
