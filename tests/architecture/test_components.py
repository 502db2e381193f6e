"""Tests skip what is missing on a laptop; in continuous integration nothing may be missing."""

import os

import pytest

from promcompat.core.cache_folder import InstallError
from tests.support.programs.components import COMPONENTS


@pytest.mark.parametrize("name", COMPONENTS)
def test_component_is_there(name: str) -> None:
    try:
        COMPONENTS[name]()
    except InstallError as error:
        message = f"{name} is not available on this machine: {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
