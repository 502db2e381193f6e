"""Where files are kept that can be made again."""

from pathlib import Path

import pytest

from promcompat.core.cache_folder import default_cache_folder, make_readable_folder


def test_cache_of_root_is_where_other_accounts_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/someone/cache")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_cache_folder() == Path("/var/cache/promcompat")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert default_cache_folder() == Path("/home/someone/cache/promcompat")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_folder() == Path.home() / ".cache" / "promcompat"


def test_other_accounts_can_read_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    make_readable_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o755
    folder.chmod(0o700)
    make_readable_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
