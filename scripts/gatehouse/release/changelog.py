"""A changelog as Keep a Changelog has it: what is Unreleased, cut into a version. Everything here is pure.

Headings are those that a Markdown parser finds: what stands in a code block, an HTML comment, a quotation or
a sentence is none. What is not changed keeps its bytes, newlines included.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING
from urllib.parse import quote

from gatehouse.errors import Decision, Problem, UserError
from gatehouse.github.escape import plain
from gatehouse.release.sections import (
    LINE,
    UNRELEASED,
    UNRELEASED_TITLE,
    VERSION_TITLE,
    Document,
    Entry,
    Section,
    canonical,
    parse,
    trimmed,
    uncommented,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from packaging.version import Version

    from gatehouse.release.version import Level

_BREAKING = re.compile(r"[\s*_~`\[(>+-]*breaking\b", re.IGNORECASE)
_BREAKING_LINE = re.compile(r"[\s*_~`\[(>+-]*(?:Breaking|BREAKING)\b")
"""Inside an entry only with a capital: a line may go on with "breaking nothing"."""

_LEVELS: dict[str, Level] = {
    "removed": "major",
    "added": "minor",
    "changed": "minor",
    "deprecated": "minor",
    "fixed": "patch",
    "security": "patch",
}
"""How much a category of Keep a Changelog counts up; any other counts as a change."""

_REPAIR = "Write what a user sees of it as a list item under Unreleased."
_EXAMPLE = "## [Unreleased]\n\n### Added\n\n- What a user sees of the change, in one sentence.\n"


def section(text: str, version: Version | str) -> str | None:
    """The body of a version's section, without heading and link definitions; None where there is none."""
    document = parse(text)
    found = document.named(canonical(version))
    return document.body(found[0]) if found else None


def unreleased(text: str) -> str | None:
    """The body of what is unreleased, as `section` has it; None where there is no such heading."""
    document = parse(text)
    found = document.named(UNRELEASED)
    return document.body(found[0]) if found else None


def entries(text: str, version: Version | str | None = None) -> list[Entry]:
    """The entries of a version, or of what is unreleased; none where there is no such section."""
    document = parse(text)
    found = document.named(canonical(version) if version else UNRELEASED)
    return document.entries(found[0]) if found else []


def level(text: str, current: Version | None = None, path: str = "CHANGELOG.md") -> tuple[Level, str]:
    """How much the next version counts up for what is unreleased, and why.

    `current` is the newest release. Raises UserError for what `cut` would refuse.
    """
    document = parse(text)
    weights: dict[Level, Entry] = {}
    for entry in document.entries(_only_unreleased(document, path)):
        breaks = any(map(_BREAKING.match, (entry.said, entry.category))) or any(
            map(_BREAKING_LINE.match, uncommented(entry.text).split("\n"))
        )
        weights.setdefault("major" if breaks else _LEVELS.get(entry.category.casefold(), "minor"), entry)
    chosen = next(one for one in ("major", "minor", "patch") if one in weights)
    entry = weights[chosen]
    where = f"under {plain(entry.category, 40)}" if entry.category else "under no category"
    reason = f'"{plain(entry.said, 80)}" ({where}, line {entry.line}) makes it a {chosen} release'
    if chosen == "major" and (current is None or current.major == 0):
        return "minor", f"{reason}, which below 1.0.0 counts as minor"
    return chosen, reason


def cut(
    text: str,
    version: Version,
    day: date,
    repository_url: str,
    previous_tag: str | None,
    tag_prefix: str = "v",
    path: str = "CHANGELOG.md",
) -> str:
    """The changelog with Unreleased become `[X.Y.Z] - DAY`, an empty Unreleased above, and compare links.

    Without `previous_tag` the version links to its own tag. Raises UserError with every fault: no Unreleased
    or two of them, nothing in it, a section of that version already there.
    """
    document = parse(text)
    there = [
        document.problem(
            f"there is a section of {version} already",
            path,
            one.heading.start,
            "Was it released? Then take a newer version. Else put its entries under Unreleased.",
        )
        for one in document.named(canonical(version))
    ]
    found = _only_unreleased(document, path, *there)
    at, newline = found.heading, document.newline
    heading = document.lines[at.start : at.end]
    title = UNRELEASED_TITLE.fullmatch(at.said)
    assert title  # noqa: S101 what makes it the section that it is
    ends = _links(repository_url, previous_tag, f"{tag_prefix}{version}")
    fresh, inline = "".join(heading), ""
    if title[2] and title[2].startswith("("):
        inline, fresh = f"({ends[1]})", fresh.replace(title[2], f"({ends[0]})", 1)
    mark = re.match(r"\ufeff?( {0,3}(?:#{1,2}[ \t]+)?)", heading[0])
    prefix = mark[1] if mark else ""
    new = f"{prefix}[{version}]{inline} - {day.isoformat()}{newline}{''.join(heading[1:])}"
    edits = [(at.start, at.end, [_ended(fresh, newline), newline, new])]
    if not inline:
        edits += _defined(document, title[1], str(version), ends)
    return _edited(document, edits)


def back_merge(base: str, released: str, develop: str) -> str | None:
    """The changelog of develop after a release came back to it.

    `base` is develop's when the release was cut, `released` what main has now, `develop` what develop has
    now. What came under Unreleased on develop since then stays there, in what was released. None where
    develop's changelog changed in another way too: a person has to tell then.
    """
    old, ours, now = parse(base), parse(released), parse(develop)
    if any(len(one.named(UNRELEASED)) != 1 for one in (old, ours, now)) or _outside(old) != _outside(now):
        return None
    was, is_ = (one.entries(one.named(UNRELEASED)[0]) for one in (old, now))
    before = Counter(entry.key for entry in was)
    if before - Counter(entry.key for entry in is_):
        return None  # an entry that was cut has been reworded or taken away since
    edits = _placed(ours, _new(is_, before))
    known = set(old.definitions()) | set(ours.definitions())
    links = [
        "".join(now.lines[b.start : b.end]) for label, b in now.definitions().items() if label not in known
    ]
    if links:
        edits.append((len(ours.lines), len(ours.lines), [_ended(link, ours.newline) for link in links]))
    return _edited(ours, edits)


def missing(base: str | None, head: str | None, path: str = "CHANGELOG.md") -> Decision:
    """Whether a change adds an entry under Unreleased; the reason says what to write where.

    `base` and `head` are the changelog before and after it, None where there is none.
    """
    if head is None:
        what = "is deleted" if base is not None else "does not exist"
        return Decision(passed=False, reason=f"{path} {what}. It has to hold:\n\n{_EXAMPLE}")
    old, new = parse(base or ""), parse(head)
    found = new.named(UNRELEASED)
    if len(found) > 1:
        lines = " and ".join(str(one.heading.start + 1) for one in found)
        return Decision(
            passed=False, reason=f"{path} has more than one Unreleased, in lines {lines}: join them."
        )
    if not found:
        return Decision(passed=False, reason=f"{path} has no heading Unreleased. Write:\n\n{_EXAMPLE}")
    before = _counted(old)
    if added := _new(new.entries(found[0]), before[UNRELEASED]):
        shown = "; ".join(f'line {entry.line}, "{plain(entry.said, 80)}"' for entry in added[:3])
        return Decision(passed=True, reason=f"{path} has a new entry under Unreleased: {shown}.")
    if misplaced := _misplaced(before, new):
        return Decision(passed=False, reason=_moves(misplaced, path, found[0].heading.start + 1))
    line = found[0].heading.start + 1
    say = f"{path} has no new entry. Add one under Unreleased, line {line}, so that it reads:\n\n{_EXAMPLE}"
    return Decision(passed=False, reason=say)


def _only_unreleased(document: Document, path: str, *others: Problem) -> Section:
    """The one Unreleased that has entries; raises UserError for anything else, with the other faults."""
    problems, found = list(others), document.named(UNRELEASED)
    if not found:
        mentions = [at for at, line in enumerate(document.lines) if UNRELEASED in line.casefold()]
        said = "no heading Unreleased" + (": this line is none" if mentions else "")
        repair = 'Write "## [Unreleased]" above the newest version, and its entries below.'
        problems.append(document.problem(said, path, mentions[0] if mentions else 0, repair))
    problems += [
        document.problem(
            "a second Unreleased", path, one.heading.start, "Put the entries of both under one heading."
        )
        for one in found[1:]
    ]
    if len(found) == 1 and not document.entries(found[0]):
        problems.append(
            document.problem("nothing stands under Unreleased", path, found[0].heading.start, _REPAIR)
        )
    if problems:
        raise UserError(*problems, left="Nothing was changed.")
    return found[0]


def _links(repository_url: str, previous_tag: str | None, tag: str) -> tuple[str, str]:
    """The addresses of what is unreleased after `tag`, and of the version itself."""
    url, this = repository_url.rstrip("/"), quote(tag, safe="")
    own = (
        f"{url}/compare/{quote(previous_tag, safe='')}...{this}"
        if previous_tag
        else f"{url}/releases/tag/{this}"
    )
    return f"{url}/compare/{this}...HEAD", own


def _defined(
    document: Document, label: str | None, version: str, ends: tuple[str, str]
) -> list[tuple[int, int, list[str]]]:
    """The edits that bring the link definitions up to date; `label` is Unreleased's, None for none."""
    known, newline = document.definitions(), document.newline
    there, edits = known.get(UNRELEASED), []
    target = ends[0]
    if there:
        label = there.label
        _, dots, end = there.url.rpartition("...")  # ...develop stays ...develop
        if dots and end and end[0] not in "./" and not {"?", "#"} & set(end):
            target = target.removesuffix("HEAD") + end
    added = [f"[{label}]: {target}{newline}"] if label else []
    added.append(f"[{version}]: {ends[1]}{newline}")
    if own := known.get(version):
        edits.append((own.start, own.end, list[str]()))
    versions = [
        block.start for label, block in known.items() if VERSION_TITLE.match(label) and block is not own
    ]
    last = len(document.lines)
    if there:
        edits.append((there.start, there.end, added))
    elif versions:
        edits.append((min(versions), min(versions), added))
    else:
        after = document.blocks[-1].kind == "definition" or not document.lines[-1].strip()
        edits.append((last, last, added if after else [newline, *added]))
    return edits


def _counted(document: Document) -> defaultdict[str, Counter[tuple[str, str]]]:
    """How often each entry stands in the sections of each name."""
    found: defaultdict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for one in document.sections:
        found[one.name].update(entry.key for entry in document.entries(one))
    return found


def _new(now: list[Entry], before: Counter[tuple[str, str]]) -> list[Entry]:
    """The entries that were not there before; one that is there twice now is new once."""
    met, found = Counter[tuple[str, str]](), []
    for entry in now:
        key = entry.key
        met[key] += 1
        if met[key] > before[key]:
            found.append(entry)
    return found


def _outside(document: Document) -> list[str]:
    """Everything but the body of Unreleased and the link definitions, without blank lines."""
    left_out = {at for b in document.definitions().values() for at in range(b.start, b.end)}
    for one in document.named(UNRELEASED):
        left_out |= set(range(one.heading.end, one.end))
    return [line.rstrip() for at, line in enumerate(document.lines) if at not in left_out and line.strip()]


def _placed(document: Document, added: list[Entry]) -> list[tuple[int, int, list[str]]]:
    """The edits that put entries under Unreleased, each at the end of its category."""
    target, newline = document.named(UNRELEASED)[0], document.newline
    category, ends = "", {"": target.heading.end}
    listed: dict[str, bool] = {}
    for block in document.within(target):
        if block.kind == "heading":
            category = block.said.casefold()
        if block.kind != "definition":
            lines = trimmed(document.lines[block.start : block.end])
            ends[category] = block.start + len(lines)
            listed[category] = block.kind == "list_item"
    last, edits = max(ends.values()), list[tuple[int, int, list[str]]]()
    grouped = defaultdict[str, list[str]](list)
    for entry in added:
        grouped[entry.category] += [_ended(line, newline) for line in LINE.findall(entry.text)]
    for name, mine in grouped.items():
        at = ends.get(name.casefold())
        if at is None:
            edits.append((last, last, [newline, f"### {name}{newline}", newline, *mine]))
        else:
            edits.append((at, at, mine if listed.get(name.casefold()) else [newline, *mine]))
    return edits


def _misplaced(
    before: defaultdict[str, Counter[tuple[str, str]]], new: Document
) -> list[tuple[Entry, Section]]:
    """The entries that are new under a version, with its section."""
    return [
        (entry, one)
        for one in new.sections
        if one.name != UNRELEASED
        for entry in _new(new.entries(one), before[one.name])
    ]


def _moves(misplaced: Iterable[tuple[Entry, Section]], path: str, line: int) -> str:
    """Which lines have to go where."""
    moves = []
    for entry, one in misplaced:
        last = entry.line + len(LINE.findall(entry.text)) - 1
        lines = f"line {entry.line}" if last == entry.line else f"lines {entry.line} to {last}"
        under = f"### {plain(entry.category, 40)} under " if entry.category else ""
        moves.append(
            f'{path}:{entry.line}: "{plain(entry.said, 80)}" stands under {one.name}, which is cut '
            f"already. Move {lines} to {under}Unreleased (line {line})."
        )
    return "\n".join(moves)


def _ended(text: str, newline: str) -> str:
    """The text with exactly one line end, of that kind."""
    return text.rstrip("\r\n") + newline


def _edited(document: Document, edits: list[tuple[int, int, list[str]]]) -> str:
    """The text with the lines of each edit in place of those from its start to before its end."""
    lines = list(document.lines)
    if lines and any(start == len(lines) for start, _, _ in edits):
        lines[-1] += "" if lines[-1].endswith(("\r", "\n")) else document.newline
    done, at = list[str](), 0
    for start, end, new in sorted(edits, key=lambda edit: edit[:2]):
        done += [*lines[at:start], *new]
        at = end
    return "".join([*done, *lines[at:]])
