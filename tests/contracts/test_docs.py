"""The documentation against the files it speaks of."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from tests.contracts.suite import ACTIONS, ROOT, repository_files
from tools.action_docs import documents, regenerated

DOCUMENTS = [str(path.relative_to(ROOT)) for path in documents(ROOT)]
TESTED = ("templates/", "examples/", ".github/workflows/", "actions/", "action.yml", "tests/")
"""Where YAML is run or checked by a test."""
FENCED = re.compile(
    r"^(?P<fence>`{3,})(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=fence)$", re.DOTALL | re.MULTILINE
)


def as_lines(text: str) -> str:
    """Text without its common indentation and blank edges, for finding an excerpt in a file."""
    return textwrap.dedent(text).strip("\n")


def contains(whole: str, part: str) -> bool:
    """Whether the lines of `part` stand together in `whole`, at any depth of indentation."""
    wanted = as_lines(part).split("\n")
    lines = whole.split("\n")
    windows = (lines[start : start + len(wanted)] for start in range(len(lines) - len(wanted) + 1))
    return any(as_lines("\n".join(window)) == "\n".join(wanted) for window in windows)


@pytest.mark.parametrize("path", DOCUMENTS)
def test_generated_parts_are_up_to_date(path: str) -> None:
    """`make docs` would change nothing."""
    text = (ROOT / path).read_text()
    assert regenerated(text, ROOT) == text


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_shows_its_table(action: str) -> None:
    """An action's README (for the root action also a page of docs/) holds the generated table."""
    pages = [str(Path(action).with_name("README.md"))]
    if action == "action.yml":
        pages += [name for name in DOCUMENTS if name.startswith("docs/")]
    assert any(f"<!-- table from: {action} -->" in (ROOT / page).read_text() for page in pages)


@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_yaml_block_comes_from_a_tested_file(path: str) -> None:
    """A YAML block in a document is a file, or a part of one, that a test runs or checks."""
    text = (ROOT / path).read_text()
    for block in FENCED.finditer(text):
        if block["language"].lower() not in ("yaml", "yml"):
            continue
        line = text[: block.start()].count("\n") + 1
        above = re.search(r"<!-- (from|part of): (\S+) -->\s*\Z", text[: block.start()])
        assert above, f"{path}:{line}: no `<!-- from: FILE -->` or `<!-- part of: FILE -->` above this block"
        kind, source = above.groups()
        assert source.startswith(TESTED), f"{path}:{line}: no test runs {source}"
        whole = (ROOT / source).read_text()
        if kind == "from":
            assert block["body"] == whole, f"{path}:{line}: not {source}; `make docs` mends it"
        else:
            assert contains(whole, block["body"]), f"{path}:{line}: {source} does not contain this"


@pytest.mark.parametrize("path", DOCUMENTS)
def test_links_lead_somewhere(path: str) -> None:
    """A relative link in a document names a file or folder that exists."""
    text = FENCED.sub("", (ROOT / path).read_text())
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    assert [target for target in local if not ((ROOT / path).parent / target).exists()] == []


def map_entries(text: str) -> list[str]:
    """The paths in the map of CONTRIBUTING.md, those inside a folder joined to it.

    The map is the fenced block under "## The house": a path on each line, then what it is. A deeper line
    belongs to the folder above it; a line indented by 20 columns or more goes on with a description.
    """
    section = re.search(r"^## The house\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert section, 'CONTRIBUTING.md has no section "## The house"'
    block = FENCED.search(section[1])
    assert block, "the section has no fenced block"
    entries = []
    above: list[tuple[int, str]] = []
    for line in textwrap.dedent(block["body"]).splitlines():
        indent = len(line) - len(line.lstrip())
        if not line.strip() or indent >= 20:
            continue
        while above and above[-1][0] >= indent:
            above.pop()
        name = line.split()[0]
        entry = (above[-1][1] if above else "") + name
        entries.append(entry)
        if name.endswith("/"):
            above.append((indent, entry))
    return entries


def pattern(entry: str) -> str:
    """The entry as a glob: a word in capitals (`NAME`) stands for any name."""
    return re.sub(r"(?<![\w.])[A-Z]{3,}(?![\w])", "*", entry.rstrip("/"))


def test_the_map_is_the_tree() -> None:
    """What the map lists exists, and it lists every top-level folder and every package and module of ours."""
    entries = map_entries((ROOT / "CONTRIBUTING.md").read_text())
    assert [entry for entry in entries if not any(ROOT.glob(pattern(entry)))] == []
    files = [Path(name) for name in repository_files()]
    wanted = {file.parts[0] for file in files if len(file.parts) > 1 and file.parts[0] != ".ci"}
    wanted |= {"/".join(file.parts[:3]) for file in files if file.parts[:2] == ("scripts", "gatehouse")}
    wanted -= {f"scripts/gatehouse/{name}" for name in ("__init__.py", "__main__.py", "py.typed")}
    listed = [pattern(entry) for entry in entries]
    known = {part for path in listed for part in (path, *map(str, Path(path).parents))}
    assert {
        path for path in wanted if path not in known and not any(Path(path).match(one) for one in listed)
    } == set()
