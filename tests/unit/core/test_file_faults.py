"""Faults of files are told in words, with the name of the file once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from promcompat.alerting.rule_file_watch import read_rule_files
from promcompat.core.errors import BadDataError, PromcompatError
from promcompat.core.texts.file_faults import reading_fault
from promcompat.dashboards.files import read_file
from promcompat.scraping.discovery import read_group_file
from promcompat.scraping.document import read_config_file


def test_reasons_why_a_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        (tmp_path / "missing").read_text()
    assert reading_fault(missing.value) == "No such file or directory"
    with pytest.raises(UnicodeDecodeError) as binary:
        b"ab\xff".decode()
    assert reading_fault(binary.value) == "not UTF-8: byte 2 is 0xff"
    assert reading_fault(BadDataError("line 3: no")) == "line 3: no"


@pytest.mark.parametrize(
    "read",
    [read_config_file, read_file, read_group_file, lambda path: read_rule_files([str(path)])],
)
def test_readers_name_a_missing_file_once(tmp_path: Path, read: Callable[[Path], object]) -> None:
    missing = tmp_path / "missing.yml"
    with pytest.raises(PromcompatError) as refused:
        read(missing)
    assert str(refused.value) == f"{missing}: No such file or directory"
