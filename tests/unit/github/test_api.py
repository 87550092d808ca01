"""`gatehouse.github.api` against real HTTP: a server on this machine that answers from a script."""

from __future__ import annotations

import json
import threading
import traceback
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.errors import Exit, UserError
from gatehouse.github.api import Api, ApiError, LostReplyError, RateLimitError, rate_limit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "ghs_nobody-may-see-this"


@dataclass
class Answer:
    """One reply of the script; status 0 drops the connection."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


class Server(ThreadingHTTPServer):
    """Answers each request with the next of `answers`, and remembers the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, str, str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_json = self.headers.get("Content-Type", "application/json") == "application/json"
        sent = (json.loads(body) if is_json else body) if body else None
        self.server.requests.append((self.command, self.path, self.headers.get("Authorization") or "", sent))
        answer = self.server.answers.pop(0)
        if not answer.status:
            return
        raw = answer.body.encode() if isinstance(answer.body, str) else json.dumps(answer.body).encode()
        raw = b"" if answer.body is None else raw
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _handle  # noqa: N815 names that the base class calls


@pytest.fixture
def server() -> Iterator[Server]:
    """A scripted server; every answer has to be used."""
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()
    assert not made.answers


@pytest.fixture
def waits() -> list[float]:
    """The seconds that the client waited instead of sleeping."""
    return []


@pytest.fixture
def api(server: Server, waits: list[float]) -> Iterator[Api]:
    """A client of the scripted server that does not really wait."""
    with Api(server.url, TOKEN, sleep=waits.append) as made:
        yield made


def test_requests_carry_token_and_json(api: Api, server: Server) -> None:
    """Each method sends its body and the token, and returns the reply's JSON, None for an empty one."""
    server.answers = [Answer(200, {"a": 1}), Answer(201, {"b": 2}), Answer(200, [3]), Answer(204)]
    assert api.get("/x", state="open") == {"a": 1}
    assert api.post("/x", {"body": "ü"}) == {"b": 2}
    assert api.patch("/x/1", {"body": ""}) == [3]
    api.delete("/x/1")
    assert [(m, p, b) for m, p, _, b in server.requests] == [
        ("GET", "/x?state=open", None),
        ("POST", "/x", {"body": "ü"}),
        ("PATCH", "/x/1", {"body": ""}),
        ("DELETE", "/x/1", None),
    ]
    assert {auth for _, _, auth, _ in server.requests} == {f"Bearer {TOKEN}"}


def test_netrc_does_not_replace_the_token(
    api: Api, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ~/.netrc holds for the host is not sent instead of the token."""
    (tmp_path / "netrc").write_text("default login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.answers = [Answer(200, {})]
    api.get("/x")
    assert server.requests[0][2] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("fault", [Answer(0), Answer(500), Answer(502, "<html>")])
def test_reading_is_tried_again(fault: Answer, api: Api, server: Server, waits: list[float]) -> None:
    """A GET survives lost connections and 5xx, waiting longer each time."""
    server.answers = [fault, fault, Answer(200, {"a": 1})]
    assert api.get("/x") == {"a": 1}
    assert waits == [1.0, 2.0]


def test_reading_gives_up_within_the_budget(api: Api, server: Server, waits: list[float]) -> None:
    """A server that stays broken is given up before the budget of 60 s is over."""
    server.answers = [Answer(503, {"message": "Down"}) for _ in range(6)]
    with pytest.raises(ApiError, match="GET /x: GitHub answered 503: Down\nGave up"):
        api.get("/x")
    assert sum(waits) == 31


@pytest.mark.parametrize("method", ["post", "patch", "delete"])
@pytest.mark.parametrize("fault", [Answer(0), Answer(500, {"message": "x"}), Answer(502)])
def test_writing_is_not_repeated_blindly(method: str, fault: Answer, api: Api, server: Server) -> None:
    """A write whose reply is lost is made once, and reported as possibly done."""
    server.answers = [fault]
    with pytest.raises(LostReplyError, match="may have been done or not"):
        getattr(api, method)("/x", *([{}] if method != "delete" else []))
    assert len(server.requests) == 1


def test_a_write_answered_with_garbage_is_lost(api: Api, server: Server) -> None:
    """A 200 that is no JSON (a proxy's page) is not taken for GitHub's reply; a read says what it got."""
    server.answers = [Answer(200, "<html>"), Answer(200, "<html>")]
    with pytest.raises(LostReplyError, match="not JSON"):
        api.post("/x", {})
    with pytest.raises(ApiError, match="not JSON"):
        api.get("/x")


@pytest.mark.parametrize("method", ["get", "delete"])
@pytest.mark.parametrize(
    ("limit", "wait"),
    [
        (Answer(429, {"message": "x"}, {"Retry-After": "7"}), 7.0),
        (Answer(403, {"message": "x"}, {"Retry-After": "9"}), 9.0),
        (Answer(403, {"message": "You have exceeded a secondary rate limit"}), 60.0),
        (Answer(429), 60.0),
    ],
)
def test_rate_limits_are_waited_out(
    method: str, limit: Answer, wait: float, server: Server, waits: list[float]
) -> None:
    """A refusal for a rate limit is repeated after the time it names, reads and writes alike."""
    server.answers = [limit, Answer(200, {})]
    with Api(server.url, TOKEN, sleep=waits.append) as api:
        getattr(api, method)("/x")
    assert waits == [wait]


def test_a_rate_limit_beyond_the_budget_is_an_error(api: Api, server: Server, waits: list[float]) -> None:
    """Nobody waits an hour: the error says how long it would take; waits add up over requests."""
    wait = {"Retry-After": "40"}
    server.answers = [Answer(429, {}, wait), Answer(200, {}), Answer(429, {"message": "Slow"}, wait)]
    api.get("/x")
    with pytest.raises(RateLimitError, match="429: Slow\nGave up: the next attempt would be in 40 s"):
        api.post("/x", {})
    assert waits == [40.0]


@pytest.mark.parametrize(
    ("status", "headers", "body", "wait"),
    [
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1030"}, "", 31.0),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "900"}, "", 1.0),
        (429, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "nan"}, "", 60.0),
        (403, {"retry-after": "inf"}, "", None),
        (403, {}, "You have exceeded a secondary rate limit. Please wait a few minutes", 60.0),
        (403, {}, "You have triggered an abuse detection mechanism.", 60.0),
        (403, {"x-ratelimit-remaining": "4000"}, "Resource not accessible by integration", None),
        (404, {"retry-after": "1"}, "", None),
    ],
)
def test_rate_limit(status: int, headers: dict[str, str], body: str, wait: float | None) -> None:
    """What is a rate limit and how long it lasts, at second 1000."""
    assert rate_limit(status, headers, body, 1000.0) == wait


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (
            401,
            {"message": "Bad credentials"},
            "GET /x: GitHub answered 401: Bad credentials\nThe token is missing",
        ),
        (403, {"message": "Resource not accessible by integration"}, "pull-requests: write"),
        (403, {"message": "Resource not accessible by integration"}, "fork"),
        (403, {"message": "issue is locked"}, "issue is locked\nThe token may not"),
        (
            404,
            {"message": "Not Found"},
            "404: Not Found\nThe repository, pull request or comment does not exist",
        ),
        (
            422,
            {"message": "Invalid", "errors": [{"field": "body", "code": "missing"}, "e"]},
            "Invalid;  body missing; e",
        ),
        (
            422,
            {"message": "Validation Failed", "errors": [{"message": "too long"}]},
            "Validation Failed; too long",
        ),
        (400, "\x1b[31m<html>", "400: Bad Request"),
        (418, [], "GitHub answered 418"),
        (422, {"message": {"a": 1}, "errors": 3}, "422: {'a': 1}"),
    ],
)
def test_a_refusal_says_what_was_asked_and_the_repair(
    status: int, body: Any, said: str, api: Api, server: Server
) -> None:
    """The error names the request, the status, GitHub's own words and what to do; exit code 3."""
    server.answers = [Answer(status, body)]
    with pytest.raises(ApiError) as error:
        api.get("/x", a="b")
    assert said in str(error.value)
    assert error.value.status == status
    assert error.value.code is Exit.UNSCORED


def test_pages_are_followed_to_the_end(api: Api, server: Server) -> None:
    """Every page is read, relative links too, with 100 items asked for."""
    links = [
        {"Link": f'<{server.url}/x?page=2>; rel="next", </x?page=3>; rel="last"'},
        {"Link": '</x?page=3>; rel="next"'},
        {},
    ]
    server.answers = [Answer(200, [n], link) for n, link in enumerate(links)]
    assert list(api.pages("/x", state="all")) == [[0], [1], [2]]
    assert [path for _, path, _, _ in server.requests] == [
        "/x?per_page=100&state=all",
        "/x?page=2",
        "/x?page=3",
    ]


def test_pages_in_a_loop_end(api: Api, server: Server) -> None:
    """A link back to a page that was read ends the listing."""
    link = {"Link": '</x?page=2>; rel="next"'}
    server.answers = [Answer(200, [0], link), Answer(200, [1], link)]
    assert list(api.pages("/x")) == [[0], [1]]


@pytest.mark.parametrize(
    "to",
    [
        "http://localhost:{port}/x",
        "https://127.0.0.1:{port}/x",
        "http://127.0.0.1:1/x",
        "//evil.example/x",
        "http://127.0.0.1:{port}@evil.example/",
        "http://[x",
    ],
)
@pytest.mark.parametrize("by", ["link", "redirect"])
def test_the_token_stays_on_its_server(to: str, by: str, api: Api, server: Server) -> None:
    """Neither a next page nor a redirect on another origin is followed; a listing cut short is an error."""
    target = to.format(port=server.server_port)
    page = (
        Answer(200, [], {"Link": f'<{target}>; rel="next"'})
        if by == "link"
        else Answer(302, None, {"Location": target})
    )
    server.answers = [page]
    with pytest.raises(ApiError, match=r"another server|not an address"):
        list(api.pages("/x"))
    assert len(server.requests) == 1


def test_redirects_on_the_same_server_are_followed(api: Api, server: Server) -> None:
    """A renamed repository is found: a GET follows, a write where the redirect keeps its method."""
    server.answers = [
        Answer(301, {}, {"Location": "/y"}),
        Answer(200, 1),
        Answer(307, {}, {"Location": "/y"}),
        Answer(201, 2),
    ]
    assert api.get("/x", a=1) == 1
    assert api.post("/x", {"b": 1}) == 2
    assert [(m, p, b) for m, p, _, b in server.requests][1::2] == [
        ("GET", "/y", None),
        ("POST", "/y", {"b": 1}),
    ]


def test_endless_redirects_end(api: Api, server: Server) -> None:
    """A redirect to itself is an error after a few, and so is one of a write that would turn into a GET."""
    server.answers = [Answer(302, {}, {"Location": "/x"}) for _ in range(6)] + [
        Answer(301, {}, {"Location": "/y"})
    ]
    with pytest.raises(ApiError, match="302"):
        api.get("/x")
    with pytest.raises(ApiError, match="301"):
        api.post("/x", {})


def test_the_token_is_in_no_message(server: Server, waits: list[float]) -> None:
    """Neither repr nor message nor traceback holds the token, even when the server sends it back."""
    echo = {"message": f"who is {TOKEN}?"}
    server.answers = [Answer(401, echo), Answer(500, echo), Answer(0)]
    with Api(server.url, TOKEN, sleep=waits.append) as api:
        assert TOKEN not in repr(api) + str(vars(api)["_session"].headers)
        for ask in (lambda: api.get("/x"), lambda: api.post("/x", {}), lambda: api.delete("/x")):
            with pytest.raises(ApiError) as error:
                ask()
            assert TOKEN not in "".join(traceback.format_exception(error.value)) + repr(error.value)


def test_a_malformed_token_is_a_user_error() -> None:
    """A line end around the token is forgiven; inside, it is an error that does not show the token."""
    Api("http://127.0.0.1:1", TOKEN + "\n").close()
    with pytest.raises(UserError) as error:
        Api("http://127.0.0.1:1", f"{TOKEN}\nX-Evil: 1")
    assert TOKEN not in str(error.value)


def test_an_address_that_is_none(waits: list[float]) -> None:
    """A malformed API address is said at once; one that nobody answers after the retries."""
    with (
        Api("api.github.com", TOKEN, sleep=waits.append) as api,
        pytest.raises(ApiError, match="Check GITHUB_API_URL"),
    ):
        api.get("/x")
    assert waits == []
    with (
        Api("http://127.0.0.1:1", TOKEN, sleep=waits.append) as api,
        pytest.raises(ApiError, match=r"127\.0\.0\.1:1"),
    ):
        api.get("/x")
    assert len(waits) == 5


def test_a_file_is_fetched_elsewhere_without_the_token(api: Api, server: Server) -> None:
    """A download follows GitHub's redirect to the host of the file, where the token does not go."""
    with Server() as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.01,))
        thread.start()
        server.answers = [Answer(302, None, {"Location": f"{other.url}/blob?sig=x"})]
        other.answers = [Answer(200, "the file")]
        assert api.download("/repos/a/b/actions/artifacts/1/zip") == b"the file"
        other.shutdown()
        thread.join()
    assert [authorization for _, _, authorization, _ in server.requests] == [f"Bearer {TOKEN}"]
    assert [authorization for _, _, authorization, _ in other.requests] == [""]


def test_a_refused_file_is_an_error(api: Api, server: Server) -> None:
    """A file whose own host refuses it is said to be missing, not taken for empty."""
    with Server() as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.01,))
        thread.start()
        server.answers = [Answer(302, None, {"Location": f"{other.url}/blob"})]
        other.answers = [Answer(403, "expired")]
        with pytest.raises(ApiError, match="403"):
            api.download("/repos/a/b/actions/artifacts/1/zip")
        other.shutdown()
        thread.join()


def test_an_asset_is_uploaded_as_it_is(api: Api, server: Server) -> None:
    """Bytes go out under their own type and name, to the template that the release names."""
    server.answers = [Answer(201, {"id": 1})]
    url = f"{server.url}/uploads/releases/1/assets{{?name,label}}"
    assert api.upload(url, "a b.whl", b"PK\x00", "application/zip") == {"id": 1}
    assert server.requests == [
        ("POST", "/uploads/releases/1/assets?name=a+b.whl", f"Bearer {TOKEN}", b"PK\x00")
    ]


@pytest.mark.parametrize(
    "url", ["http://evil.example/x", "https://uploads.github.com.evil.example/x", "file:///x"]
)
def test_an_asset_goes_to_no_other_server(url: str, api: Api) -> None:
    """An upload address on a server that is not GitHub's gets neither token nor file."""
    with pytest.raises(ApiError, match="another server"):
        api.upload(url, "a", b"x", "text/plain")


def test_put_sends_json(api: Api, server: Server) -> None:
    """PUT carries JSON, and a lost reply is told as such."""
    server.answers = [Answer(200, {"merged": True}), Answer(0)]
    assert api.put("/x", {"sha": "a"}) == {"merged": True}
    with pytest.raises(LostReplyError):
        api.put("/x", {})
