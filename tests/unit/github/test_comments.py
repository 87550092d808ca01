"""The pure half of `gatehouse.github.comments`: which comments are ours, and what to do next."""

from __future__ import annotations

from typing import Any

import pytest

from gatehouse.github.comments import ACTIONS_BOT, Comment, Step, choose, decide, marker

HEAD, OTHER = "a" * 40, "b" * 40
BODY = marker("main", HEAD) + "new"


def listed(number: int, body: str | None, login: str | None = ACTIONS_BOT) -> dict[str, Any]:
    """A comment as the API lists it."""
    return {"id": number, "body": body, "user": login and {"login": login}, "html_url": f"https://x/{number}"}


def ours(number: int, text: str, head: str = HEAD) -> Comment:
    """One of our comments."""
    return Comment(number, marker("main", head) + text, head, "")


@pytest.mark.parametrize(
    "comment",
    [
        pytest.param(listed(1, "hello"), id="no marker"),
        pytest.param(listed(1, BODY, "mallory"), id="another author with our marker"),
        pytest.param(listed(1, BODY, "github-actions"), id="a person whose name looks like ours"),
        pytest.param(listed(1, BODY, None), id="an author whose account is gone"),
        pytest.param(listed(1, "> " + BODY), id="our author quoting the marker"),
        pytest.param(listed(1, "\n" + BODY), id="marker on the second line"),
        pytest.param(listed(1, BODY.replace("key=main", "key=main2")), id="another key"),
        pytest.param(listed(1, BODY.replace(" -->", " x -->")), id="marker with more in it"),
        pytest.param(listed(1, BODY.replace(" -->\n", " -->x\n")), id="marker that goes on"),
        pytest.param(listed(1, None), id="no body"),
    ],
)
def test_what_is_not_ours(comment: dict[str, Any]) -> None:
    """A comment counts only with our author and our marker at its very start."""
    assert choose([comment], "main", ACTIONS_BOT) == []


def test_ours_are_found_oldest_first() -> None:
    """Ours come by id, whatever the order of the list, with the head that the marker names."""
    comments = [listed(12, BODY.replace("\n", "\r\n")), listed(5, "x"), listed(7, marker("main", OTHER))]
    found = choose(comments, "main", ACTIONS_BOT)
    assert [(c.id, c.head, c.url) for c in found] == [(7, OTHER, "https://x/7"), (12, HEAD, "https://x/12")]
    assert found[1].body == BODY


@pytest.mark.parametrize("key", ["", "a b", "a-->b", "a\nb", "ü"])
def test_a_marker_holds_only_what_can_be_read_back(key: str) -> None:
    """A key that would end the marker, or not be found again, is refused."""
    with pytest.raises(ValueError, match="no marker can hold"):
        marker(key, HEAD)
    with pytest.raises(ValueError, match="no marker can hold"):
        marker("main", "HEAD -->")


@pytest.mark.parametrize(
    ("comments", "current", "since", "step"),
    [
        pytest.param([], HEAD, None, Step("create", body=BODY), id="none yet"),
        pytest.param([], HEAD, 1, Step("done"), id="created but not listed yet: not created twice"),
        pytest.param([ours(1, "new")], HEAD, None, Step("done"), id="the same"),
        pytest.param(
            [ours(1, "new\n\n")], HEAD, None, Step("done"), id="the same but for GitHub's line ends"
        ),
        pytest.param([ours(1, "old")], HEAD, None, Step("update", (1,), BODY), id="other text"),
        pytest.param(
            [ours(1, "new", OTHER)], HEAD, None, Step("update", (1,), BODY), id="same text, other commit"
        ),
        pytest.param([ours(1, "new"), ours(2, "x")], HEAD, None, Step("delete", (2,)), id="one too many"),
        pytest.param(
            [ours(1, "x"), ours(2, "y"), ours(3, "new")],
            HEAD,
            3,
            Step("update", (1,), BODY),
            id="ours is youngest",
        ),
        pytest.param(
            [ours(1, "new"), ours(2, "x"), ours(3, "new")],
            HEAD,
            3,
            Step("delete", (2, 3)),
            id="two too many",
        ),
        pytest.param(
            [ours(1, "new"), ours(2, "later")],
            HEAD,
            1,
            Step("update", (1,), marker("main", HEAD) + "later"),
            id="another run said something newer",
        ),
        pytest.param([ours(1, "later")], HEAD, 1, Step("done"), id="another run updated it: it stays"),
        pytest.param(
            [ours(1, "x"), ours(2, "new"), ours(3, "z", OTHER)],
            HEAD,
            2,
            Step("update", (1,), BODY),
            id="the youngest is of an older commit",
        ),
        pytest.param(
            [ours(1, "new"), ours(2, "before")],
            HEAD,
            3,
            Step("delete", (2,)),
            id="updated: what was younger is old",
        ),
        pytest.param([], OTHER, None, Step("stale"), id="stale, nothing there"),
        pytest.param([ours(1, "old")], OTHER, None, Step("stale"), id="stale, our old one stays"),
        pytest.param(
            [ours(1, "x", OTHER), ours(2, "new")],
            OTHER,
            2,
            Step("delete", (2,)),
            id="stale, written too late",
        ),
    ],
)
def test_decide(comments: list[Comment], current: str, since: int | None, step: Step) -> None:
    """The next step for what is there, what this run did, and where the pull request is."""
    assert decide(comments, BODY, HEAD, current, since=since) == step
