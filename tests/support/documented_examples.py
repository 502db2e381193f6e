"""Fenced blocks of README and the docs, in the order they stand there."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHELL = ("sh", "bash", "console")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class DocumentedBlock:
    """A fenced block; `line` is that of its fence."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read_blocks() -> list[DocumentedBlock]:
    """Every block that says its language: README first, then the pages by name."""
    return [
        DocumentedBlock(
            page=str(path.relative_to(ROOT)),
            line=text.count("\n", 0, match.start()) + 1,
            language=match[1],
            text=match[2],
        )
        for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
        for text in [path.read_text(encoding="utf-8")]
        for match in _BLOCK.finditer(text)
    ]


def is_request(block: DocumentedBlock) -> bool:
    """Whether it is a shell block that asks a running service."""
    return block.language in SHELL and re.search(r"\b(curl|promtool)\b", block.text) is not None
