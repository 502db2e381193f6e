"""Installs a checkout's Python packages by pip and shows sizes and progress instead of its log.

Usage: `python .ci/install_packages.py LOG-FILE PIP-ARGUMENT …`. It runs before anything is
installed, so it needs nothing but the standard library. When pip fails, its log is shown.
"""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_FILE = re.compile(
    r"\s*(?:Downloading|Using cached) (?P<name>\S+?)-\d\S*(?<!\.metadata) \((?P<size>.+)\)$"
)
_INSTALLING = "Installing collected packages: "
_UNITS = {"bytes": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}
_SHOWN_FROM_MB = 5.0
_SHOWN_LINES_OF_FAILURE = 40
_PIP = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input")


def megabytes(text: str) -> float:
    """The number of pip's sizes, such as `16.4 MB`."""
    number, _, unit = text.partition(" ")
    return float(number) * _UNITS[unit]


def progress(lines: Iterator[str]) -> Iterator[str]:
    """What a person wants to read of pip's log: the large downloads, then the installation."""
    total_mb = 0.0
    for line in lines:
        found = _FILE.match(line)
        if found is not None:
            size_mb = megabytes(found["size"])
            total_mb += size_mb
            if size_mb >= _SHOWN_FROM_MB:
                yield f"{found['name']} {size_mb:.0f} MB ({total_mb:.0f} MB so far)"
        elif line.startswith(_INSTALLING):
            n_packages = len(line.removeprefix(_INSTALLING).split(","))
            yield f"installing {n_packages} packages ({total_mb:.0f} MB downloaded)"


def main(log_file: str, *arguments: str) -> int:
    """Run pip; returns its exit code."""
    started = time.monotonic()
    with open(log_file, "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*_PIP, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None

        def logged(lines: Iterator[str]) -> Iterator[str]:
            for line in lines:
                log.write(line)
                yield line.rstrip()

        for text in progress(logged(iter(process.stdout))):
            sys.stdout.write(f"    {text}\n")
            sys.stdout.flush()
    code = process.wait()
    if code:
        lines = Path(log_file).read_text(encoding="utf-8").splitlines()
        sys.stderr.write("\n".join(lines[-_SHOWN_LINES_OF_FAILURE:]))
        sys.stderr.write(f"\npip failed; its whole log is {log_file}\n")
    else:
        sys.stdout.write(f"    done in {time.monotonic() - started:.0f} s\n")
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
