"""Where files are kept that can be made again; installs are atomic, made once, and repaired."""

import tempfile
import threading
from pathlib import Path

import pytest

from promcompat.configuration.storage import default_data_dir
from promcompat.core.cache_folder import (
    InstallError,
    NoTemporaryFolderError,
    check_temporary_folder,
    default_cache_folder,
    install_once,
    make_readable_folder,
)


def test_cache_of_root_is_where_other_accounts_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/someone/cache")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_cache_folder() == Path("/var/cache/promcompat")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert default_cache_folder() == Path("/home/someone/cache/promcompat")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_folder() == Path.home() / ".cache" / "promcompat"


def test_an_account_without_a_home_has_folders_of_the_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a container that runs as any number."""
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_000)
    assert default_cache_folder() == Path("/var/cache/promcompat")
    assert default_data_dir() == Path("/var/lib/promcompat")


def test_other_accounts_can_read_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    make_readable_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o755
    folder.chmod(0o700)
    make_readable_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def _is_healthy(folder: Path) -> bool:
    return (folder / "program").is_file()


def _build(folder: Path) -> None:
    (folder / "program").touch()


def test_second_call_does_not_build_again(tmp_path: Path) -> None:
    built: list[Path] = []

    def build(folder: Path) -> None:
        built.append(folder)
        _build(folder)

    for _ in range(2):
        assert install_once(tmp_path / "new" / "tool", build, _is_healthy) == tmp_path / "new/tool"
    assert len(built) == 1


def test_concurrent_calls_build_once(tmp_path: Path) -> None:
    built: list[Path] = []
    inside = threading.Event()
    go_on = threading.Event()

    def build(folder: Path) -> None:
        built.append(folder)
        inside.set()
        assert go_on.wait(timeout=10)
        _build(folder)

    def install() -> None:
        install_once(tmp_path / "tool", build, _is_healthy)

    threads = [threading.Thread(target=install) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert inside.wait(timeout=10)
    go_on.set()
    for thread in threads:
        thread.join(timeout=10)
    assert len(built) == 1


def test_interrupted_install_is_started_afresh(tmp_path: Path) -> None:
    def interrupt(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        install_once(tmp_path / "tool", interrupt, _is_healthy)
    assert not (tmp_path / "tool").exists()

    installed = install_once(tmp_path / "tool", _build, _is_healthy)
    assert [path.name for path in installed.iterdir()] == ["program"]


def test_damaged_install_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "debris").touch()
    installed = install_once(tmp_path / "tool", _build, _is_healthy)
    assert [path.name for path in installed.iterdir()] == ["program"]


def test_install_that_does_not_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="do not run"):
        install_once(tmp_path / "tool", lambda folder: None, _is_healthy)


def test_unwritable_cache_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InstallError, match="cannot install into"):
        install_once(tmp_path / "file" / "tool", _build, _is_healthy)


def test_installed_files_are_readable_by_the_servers_account(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        _build(folder)
        (folder / "program").chmod(0o700)

    installed = install_once(tmp_path / "tool", build, _is_healthy)
    assert installed.stat().st_mode & 0o055 == 0o055
    assert (installed / "program").stat().st_mode & 0o055 == 0o055


def test_where_nothing_temporary_can_be_written_the_error_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc"])
    with pytest.raises(NoTemporaryFolderError, match="set TMPDIR to one that can"):
        check_temporary_folder()
