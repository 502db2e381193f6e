"""The users' own workflows."""

from pathlib import Path

import pytest

from promcompat.remediation.registry import Registered, RegistryError, load_registered
from promcompat.remediation.workflows import RemediationWorkflow


def write_module(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> str:
    name = f"registered_{folder.name}".replace("-", "_")
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    return name


def test_no_package_registers_nothing() -> None:
    assert load_registered(None) == Registered()


def test_listed_workflows_and_activities_are_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "from promcompat.remediation.workflows import RemediationWorkflow\n"
        "WORKFLOWS = [RemediationWorkflow]\n"
    )
    found = load_registered(write_module(tmp_path, monkeypatch, text))
    assert (found.workflows, found.activities) == ((RemediationWorkflow,), ())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "WORKFLOWS must be a list"),
        ("WORKFLOWS = [int]", "lacks @workflow.defn"),
        ("WORKFLOWS = []\nACTIVITIES = [print]", "lacks @activity.defn"),
        ("import no_such_module_anywhere", "cannot be imported"),
    ],
)
def test_unusable_package_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    with pytest.raises(RegistryError, match=reason):
        load_registered(write_module(tmp_path, monkeypatch, text))
