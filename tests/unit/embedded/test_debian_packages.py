"""Finding the Debian mirror a machine already uses."""

from pathlib import Path

import pytest

from sql.embedded.debian_packages import find_debian_mirror


@pytest.fixture
def apt_folder(tmp_path: Path) -> Path:
    for name in ("sources.list.d", "mirrors"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_mirror_in_one_line_sources(apt_folder: Path) -> None:
    (apt_folder / "sources.list").write_text(
        "# deb http://old.example/debian bookworm main\n"
        "deb http://security.example/debian-security bookworm-security main\n"
        "deb [arch=amd64] https://mirror.example/debian/ bookworm main\n"
    )
    assert find_debian_mirror(apt_folder) == "https://mirror.example/debian/"


def test_mirror_in_deb822_sources(apt_folder: Path) -> None:
    (apt_folder / "sources.list.d" / "debian.sources").write_text(
        "Types: deb\n"
        "# http://snapshot.example/archive/debian/20250520T000000Z\n"
        "URIs: http://mirror.example/debian\n"
        "Suites: bookworm\n"
    )
    assert find_debian_mirror(apt_folder) == "http://mirror.example/debian"


def test_mirror_that_a_cloud_image_points_at(apt_folder: Path) -> None:
    (apt_folder / "sources.list").write_text("deb mirror+file:/etc/apt/mirrors/debian.list x main")
    (apt_folder / "mirrors" / "debian.list").write_text("https://cloud.example/debian\n")
    assert find_debian_mirror(apt_folder) == "https://cloud.example/debian"


def test_other_archives_are_no_debian_mirror(apt_folder: Path) -> None:
    (apt_folder / "sources.list").write_text("deb http://archive.example/ubuntu noble main\n")
    assert find_debian_mirror(apt_folder) is None


def test_vendor_archive_does_not_hide_the_mirror(apt_folder: Path) -> None:
    vendor = "deb https://download.example/linux/debian bookworm stable\n"
    (apt_folder / "sources.list").write_text(vendor + "deb http://mirror.example/debian x main\n")
    assert find_debian_mirror(apt_folder) == "http://mirror.example/debian"


def test_no_apt_at_all(tmp_path: Path) -> None:
    assert find_debian_mirror(tmp_path / "absent") is None
