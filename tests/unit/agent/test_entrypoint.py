"""What an agent file may name as who answers: what it is read as, and what every mistake in it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatehouse.agent.definition import Agent, load_agent
from gatehouse.agent.digest import named_files
from gatehouse.agent.entrypoint import Command, Entrypoint, Function, Url, in_words
from gatehouse.errors import Problem, UserError

if TYPE_CHECKING:
    from pathlib import Path

FILE = """\
agent:
  name: small
  version: 1
  model: {provider: openai, name: gpt-4o-mini-2024-07-18}
  system_prompt: prompt.md
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a prompt and the code of a command."""
    (tmp_path / "prompt.md").write_text("Be brief.\n")
    for name in ("desk/main.mjs", "desk/lib/rules.mjs", "agent.pl", "go.mod", "evals/golden.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{name}\n")
    return tmp_path


def load(root: Path, entrypoint: str) -> Agent:
    """The agent file with that entry point, as YAML in its own lines."""
    (root / "agent.yaml").write_text(f"{FILE}  entrypoint: {entrypoint}\n")
    return load_agent("agent.yaml", root)


def problem(root: Path, entrypoint: str) -> Problem:
    """The one fault of that entry point."""
    with pytest.raises(UserError) as raised:
        load(root, entrypoint)
    [fault] = raised.value.problems
    return fault


READ: dict[str, tuple[str, Entrypoint, str]] = {
    "a function": ("desk.agent:answer", Function("desk.agent:answer"), "desk.agent:answer"),
    "a command line": (
        "{command: node desk/main.mjs --say 'two words'}",
        Command(("node", "desk/main.mjs", "--say", "two words")),
        "node desk/main.mjs --say 'two words'",
    ),
    "words": ("{command: [perl, agent.pl, '']}", Command(("perl", "agent.pl", "")), "perl agent.pl ''"),
    "no shell": (
        "{command: 'run $HOME *.py A=1'}",
        Command(("run", "$HOME", "*.py", "A=1")),
        "run '$HOME' '*.py' A=1",
    ),
    "a shell": (
        "{command: [sh, -c, 'cd bot && perl a.pl']}",
        Command(("sh", "-c", "cd bot && perl a.pl")),
        "sh -c 'cd bot && perl a.pl'",
    ),
    "with its code": (
        "{command: ./desk-agent, code: [desk, go.mod]}",
        Command(("./desk-agent",), ("desk", "go.mod")),
        "./desk-agent",
    ),
    "an address": (
        "{url: 'https://desk.example:8443/ask?lang=en'}",
        Url("https://desk.example:8443/ask?lang=en"),
        "https://desk.example:8443/ask?lang=en",
    ),
    "an address with everything": (
        (
            "{url: http://127.0.0.1/ask, auth: {secret: DESK_KEY, header: X-Key}, headers: {X-Team: north},"
            " request: {q: $input, id: [$id]}, reply: {output: data.0.text, contexts: docs.*.text},"
            " stream: events, code: [desk]}"
        ),
        Url(
            "http://127.0.0.1/ask",
            "DESK_KEY",
            "X-Key",
            {"X-Team": "north"},
            {"q": "$input", "id": ["$id"]},
            {"output": "data.0.text", "contexts": "docs.*.text"},
            "events",
            ("desk",),
        ),
        "http://127.0.0.1/ask",
    ),
}


@pytest.mark.parametrize(("text", "expected", "words"), READ.values(), ids=READ)
def test_an_entry_point_is_read(root: Path, text: str, expected: Entrypoint, words: str) -> None:
    """Each kind, in each of its spellings, and what people call it."""
    agent = load(root, text)
    assert agent.entrypoint == expected
    assert in_words(expected) == words


def test_without_one_the_model_answers(root: Path) -> None:
    """No entry point is one too."""
    (root / "agent.yaml").write_text(FILE)
    assert load_agent("agent.yaml", root).entrypoint is None


BAD = {
    # the entry point, the line, what the caret stands below, what is said
    "an address as text": ("http://x.org", 6, "http://x.org", "write {command: ...} for a program"),
    "a command as text": ("node main.mjs", 6, "node main.mjs", "A text is module:function"),
    "a list": ("[node, main.mjs]", 6, "[node, main.mjs]", '"entrypoint" is a list'),
    "empty": ("", 6, "entrypoint", '"entrypoint" is empty'),
    "nothing in it": ("{}", 6, "{}", 'is module:function, or has either "command" or "url"'),
    "only its code": ("{code: [desk]}", 6, "{code: [desk]}", 'has either "command" or "url"'),
    "both": ("{command: x, url: http://x.org}", 6, None, 'has either "command" or "url"'),
    "an unknown key": ("\n    comand: x\n    url: http://x.org", 7, "comand", 'Did you mean "command"?'),
    "a key of an address": (
        "\n    command: x\n    reply: {output: a}",
        7,
        None,
        'belong to a "url", not to a "command"',
    ),
    "no words": ("{command: ''}", 6, "''", '"command" is empty'),
    "an empty list": ("{command: []}", 6, "[]", '"command" is empty'),
    "only blanks": ("{command: '  '}", 6, "'  '", "it names no program"),
    "no program": ("{command: ['', x]}", 6, "['', x]", "it names no program"),
    "an open quote": (
        "\n    command: run 'it",
        7,
        "run 'it",
        '"command" cannot be read: no closing quotation',
    ),
    "an open escape": ("{command: 'run \\'}", 6, "'run \\'", "no escaped character"),
    "a shell's own word": (
        "{command: cd bot && perl a.pl}",
        6,
        "cd bot && perl a.pl",
        'no shell reads it, and "cd" is a shell\'s; write a script, or [sh, -c, "..."]',
    ),
    "a pipe": ("{command: perl a.pl | tee log}", 6, "perl a.pl | tee log", 'and "|" is a shell\'s'),
    "a file for its output": ("{command: perl a.pl 2>log}", 6, "perl a.pl 2>log", 'and "2>log" is'),
    "two commands": ("{command: perl a.pl; true}", 6, "perl a.pl; true", 'and "a.pl;" is'),
    "a variable": ("{command: LANG=C perl a.pl}", 6, "LANG=C perl a.pl", 'and "LANG=C" is'),
    "a number": ("{command: 5}", 6, "5", '"command" is a number'),
    "a number among words": ("\n    command:\n    - run\n    - 5", 9, "5", 'item 2 of "command" is a number'),
    "no address": ("{url: desk.example}", 6, "desk.example", "starts with http:// or https://"),
    "another scheme": ("{url: 'file:///etc/passwd'}", 6, "'file:///etc/passwd'", "starts with http://"),
    "a password": ("{url: 'https://me:secret@x.org'}", 6, "'https://me:secret@x.org'", "without user"),
    "a blank": ("{url: 'http://x.org/a b'}", 6, "'http://x.org/a b'", "starts with http://"),
    "no host": ("{url: 'http://'}", 6, "'http://'", "starts with http://"),
    "auth without a secret": ("{url: http://x.org, auth: {header: X}}", 6, None, '"secret" is missing'),
    "the secret itself": (
        "\n    url: http://x.org\n    auth: {secret: sk-4711}",
        8,
        "sk-4711",
        "The name of an environment variable, never the secret itself",
    ),
    "a header with a colon": (
        "\n    url: http://x.org\n    auth: {secret: KEY, header: 'X:'}",
        8,
        "'X:'",
        "The name of an HTTP header",
    ),
    "a header with a line end": (
        '\n    url: http://x.org\n    headers: {X-A: "a\\nb"}',
        8,
        '"a\\nb"',
        "Printable ASCII",
    ),
    "a header's name": (
        "\n    url: http://x.org\n    headers: {X A: a}",
        8,
        None,
        "The name of an HTTP header",
    ),
    "an empty request": ("{url: http://x.org, request: {}}", 6, "{}", '"request" is empty'),
    "a reply without output": (
        "\n    url: http://x.org\n    reply: {contexts: a}",
        8,
        "reply",
        '"output" is missing in "reply"',
    ),
    "an unknown part": (
        "\n    url: http://x.org\n    reply: {output: a, context: b}",
        8,
        "context",
        'Did you mean "contexts"?',
    ),
    "an unknown stream": ("{url: http://x.org, stream: sse}", 6, "sse", 'must be "events" or "lines"'),
    "code outside": (
        "\n    command: x\n    code: [desk, ../secret]",
        8,
        "../secret",
        '"code" leads out of the repository',
    ),
    "code behind a link": (
        "\n    command: x\n    code:\n    - out/x",
        9,
        "out/x",
        "leads out of the repository",
    ),
    "code that is absolute": ("{command: x, code: [/etc]}", 6, "/etc", '"code" leads out'),
    "no code": ("{command: x, code: []}", 6, "[]", '"code" is empty'),
    "code twice": ("{command: x, code: [desk, desk]}", 6, None, '"code" holds something twice'),
}


@pytest.mark.parametrize(("text", "line", "below", "message"), BAD.values(), ids=BAD)
def test_every_mistake_has_its_line_and_caret(
    root: Path, text: str, line: int, below: str | None, message: str
) -> None:
    """One fault, in the line that holds it, with what is wrong underlined and what to do."""
    (root / "out").symlink_to(root.parent)
    fault = problem(root, text)
    assert message in str(fault)
    assert (fault.path, fault.line) == ("agent.yaml", line)
    if below is not None:
        assert fault.source[fault.column - 1 :][: fault.length] == below


DIGESTED = {
    "a file stands for its folder": (["node", "desk/main.mjs"], [], ["desk/lib/rules.mjs", "desk/main.mjs"]),
    "a file in the root for itself": (["perl", "agent.pl"], [], ["agent.pl"]),
    "a folder for what is in it": (["go", "run", "./desk"], [], ["desk/lib/rules.mjs", "desk/main.mjs"]),
    "a path with a dot before it": (["./agent.pl"], [], ["agent.pl"]),
    "several": (["x", "agent.pl", "desk/lib"], [], ["agent.pl", "desk/lib/rules.mjs"]),
    "named ones alone": (["perl", "agent.pl"], ["desk/lib", "go.mod"], ["desk/lib/rules.mjs", "go.mod"]),
    "nothing outside": (["/bin/cat", "../x", "desk/../../x", "", "a\0b", "."], [], []),
    "nothing that is not there": (["node", "dist/main.mjs"], ["dist"], []),
}


@pytest.mark.parametrize(("words", "code", "expected"), DIGESTED.values(), ids=DIGESTED)
def test_the_code_of_a_command_is_what_its_words_lead_to(
    root: Path, words: list[str], code: list[str], expected: list[str]
) -> None:
    """A word that is a path of the repository is its code, unless the file names it."""
    assert named_files(root, code, words) == expected


def digest_after(root: Path, entrypoint: str, changed: str | None = None) -> str:
    """The agent's digest once a file was changed."""
    if changed:
        (root / changed).write_text("changed\n")
    return load(root, entrypoint).digest


@pytest.mark.parametrize("entrypoint", ["{command: node desk/main.mjs}", "{url: http://x.org, code: [desk]}"])
def test_the_digest_covers_the_code_and_nothing_that_judges(root: Path, entrypoint: str) -> None:
    """A changed file of the code is another agent, a changed golden set is not."""
    before = digest_after(root, entrypoint)
    assert digest_after(root, entrypoint, "evals/golden.jsonl") == before
    assert digest_after(root, entrypoint, "go.mod") == before
    assert digest_after(root, entrypoint, "desk/lib/rules.mjs") != before


def test_the_digest_covers_how_it_is_called(root: Path) -> None:
    """Another argument, address or mapping is another agent; another secret and another spelling are not."""
    node, url = "{command: node desk/main.mjs}", "{url: http://x.org, auth: {secret: A}}"
    assert digest_after(root, node) == digest_after(root, "{command: [node, desk/main.mjs]}")
    assert digest_after(root, node) != digest_after(root, "{command: node desk/main.mjs --fast}")
    assert digest_after(root, url) == digest_after(root, url.replace("A", "B"))
    assert digest_after(root, url) != digest_after(root, url.replace("org", "com"))
    assert digest_after(root, url) != digest_after(root, url[:-1] + ", reply: {output: a}}")


@pytest.mark.parametrize(
    ("entrypoint", "told"),
    [
        ("{command: desk-agent --serve}", 'is known to be the code of "desk-agent --serve"'),
        ("{url: http://x.org}", 'is known to be the code of "http://x.org"'),
    ],
)
def test_code_that_is_not_known_is_warned_of(root: Path, entrypoint: str, told: str) -> None:
    """Where nothing leads to its files, the warning says how to name them."""
    [warning] = load(root, entrypoint).warnings
    assert told in warning.message
    assert "`entrypoint.code`" in warning.repair
    assert load(root, "{command: node desk/main.mjs}").warnings == []
