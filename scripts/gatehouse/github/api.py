"""A small client of GitHub's REST API: JSON in and out, pages, rate limits, errors that say the repair."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urljoin, urlsplit

import requests

from gatehouse.errors import InfrastructureError, UserError
from gatehouse.github.escape import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

API_VERSION = "2022-11-28"

_TIMEOUT = (10, 30)
"""Seconds to connect, and between two bytes of a reply."""

_REDIRECTS = 5
"""Redirects that one request follows (a renamed repository is one)."""

_SECONDARY_WAIT = 60.0
"""Seconds that GitHub asks for after a rate limit that names no time."""

_LIMITED = re.compile("secondary rate limit|abuse detection", re.IGNORECASE)
"""What a 403 says that is a rate limit: github.com, and older servers of an Enterprise."""

_FORBIDDEN = """\
The job's token may not do this. Give the job that runs this step the permissions that its action's README
names; for a comment or a pull request:
    permissions:
      contents: read
      pull-requests: write
A run for a fork's pull request has a read-only token whatever the job asks for: comment from a workflow
that `workflow_run` starts on the default branch (templates/agent-ci-comment.yml). One that Dependabot
starts has a read-only token unless the workflow itself names these permissions."""

_REPAIRS = {
    401: "The token is missing, mistyped or expired: hand on ${{ github.token }}, or make a new one.",
    403: "The token may not do this: check its permissions, and whether the organisation allows it.",
    404: "The repository, pull request or comment does not exist, or the token may not see it.",
    410: "It is disabled or was deleted.",
    422: "GitHub understood the request and refuses what it asks for: its own words are above.",
}


class ApiError(InfrastructureError):
    """GitHub refused a request, or could not be reached: then `status` is None.

    `request` is "METHOD /path", `detail` what GitHub said, or the network.
    """

    def __init__(self, request: str, status: int | None, detail: str, repair: str = "") -> None:
        self.request, self.status, self.detail = request, status, detail
        said = f"GitHub answered {status}" if status else "no usable answer from GitHub"
        super().__init__(
            f"{request}: {said}{': ' if detail else ''}{detail}{chr(10) if repair else ''}{repair}"
        )


class LostReplyError(ApiError):
    """A write without a usable reply: it may have been done or not. Look before asking again."""


class RateLimitError(ApiError):
    """GitHub wants to be asked later than this client waits."""


class Api:
    """Requests to one server with one token, which goes nowhere else and into no message.

    `api_url` is GITHUB_API_URL; a malformed token raises UserError. `budget` is how many seconds this client
    waits in all, between attempts and for rate limits, before it gives up. Close it, or use it as a context
    manager; one thread at a time.
    """

    def __init__(
        self, api_url: str, token: str, *, budget: float = 60.0, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._root = api_url.rstrip("/")
        self._token = token.strip()
        if not re.fullmatch(r"[!-~]*", self._token):
            raise UserError("the token for GitHub holds spaces, line ends or other characters no token has")
        self._budget = budget
        self._sleep = sleep
        self._session = requests.Session()
        # Through `auth`: a mere header would be replaced by what ~/.netrc holds for this host.
        self._session.auth = self._sign
        self._session.headers.update(
            {
                "Accept": "application/vnd.github+json",
                "User-Agent": "gatehouse",
                "X-GitHub-Api-Version": API_VERSION,
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Api({self._root!r})"

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def get(self, path: str, **query: str | int) -> Any:
        """The JSON at `path` ("/repos/..."); tried again after connection errors and 5xx. Raises ApiError."""
        return self._json(self._send("GET", self._root + path, query=query))

    def post(self, path: str, body: Any) -> Any:
        """The JSON that answers a POST, None for an empty reply; raises ApiError, LostReplyError."""
        return self._json(self._send("POST", self._root + path, body=body))

    def patch(self, path: str, body: Any) -> Any:
        """The JSON that answers a PATCH; raises ApiError, LostReplyError."""
        return self._json(self._send("PATCH", self._root + path, body=body))

    def put(self, path: str, body: Any) -> Any:
        """The JSON that answers a PUT; raises ApiError, LostReplyError."""
        return self._json(self._send("PUT", self._root + path, body=body))

    def delete(self, path: str) -> None:
        """Delete what is at `path`; raises ApiError (status 404: it was not there), LostReplyError."""
        self._send("DELETE", self._root + path)

    def pages(self, path: str, **query: str | int) -> Iterator[Any]:
        """The JSON of each page of a listing, 100 items a page, to the end; raises ApiError.

        A page that was already read ends it; one on another server is an error: the token stays here.
        """
        url, seen = self._root + path, set[str]()
        query = {"per_page": 100, **query}
        while url not in seen:
            seen.add(url)
            response = self._send("GET", url, query=query)
            yield self._json(response)
            following = response.links.get("next", {}).get("url")
            if not following:
                return
            url, query = self._same_origin("GET", url, following), {}

    def download(self, path: str, accept: str = "") -> bytes:
        """The file at `path`, which GitHub hands out from another host by one redirect; raises ApiError.

        The token does not go there: the address itself is the permission. `accept` is the media type to ask
        for; a release's asset is shown as JSON unless bytes are asked for.
        """
        headers = {"Accept": accept} if accept else {}
        response = self._send("GET", self._root + path, headers=headers, elsewhere=True)
        location = response.headers.get("location")
        if not response.is_redirect or not location:
            return response.content
        with requests.Session() as plain_session:
            plain_session.auth = _unsigned
            plain_session.max_redirects = _REDIRECTS
            told = f"GET {urlsplit(path).path}"
            try:
                found = plain_session.get(urljoin(response.url, location), timeout=_TIMEOUT)
            except (requests.RequestException, OSError, ValueError) as error:
                raise ApiError(told, None, f"{type(error).__name__} at the file's own host") from None
        if not found.ok:
            raise ApiError(told, found.status_code, "the file's own host refuses it")
        return found.content

    def upload(self, upload_url: str, name: str, content: bytes, content_type: str) -> Any:
        """Attach a file to a release by its `upload_url`; the JSON of the asset.

        Raises ApiError, also for an address that is not GitHub's own, and LostReplyError.
        """
        url = upload_url.partition("{")[0]  # a template: .../assets{?name,label}
        host, own = urlsplit(url), urlsplit(self._root)
        if _origin(url) != _origin(self._root) and (host.scheme, host.hostname, own.hostname) != (
            "https",
            "uploads.github.com",
            "api.github.com",
        ):
            detail = f"the release's upload address is on another server: {plain(url, 200)}"
            raise ApiError("POST release asset", None, detail)
        return self._json(
            self._send(
                "POST", url, query={"name": name}, body=content, headers={"Content-Type": content_type}
            )
        )

    def _send(
        self,
        method: str,
        url: str,
        *,
        query: dict[str, str | int] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
        elsewhere: bool = False,
    ) -> requests.Response:
        """The reply with a 2xx status, after what waiting and redirects it takes.

        `body` is sent as JSON, bytes as they are. With `elsewhere` a redirect to another server
        is handed back.
        """
        pause, redirects = 1.0, 0
        while True:
            response, fault = self._once(method, url, query, body, headers or {})
            limited: float | None = None
            if response is None or response.status_code >= 500:  # noqa: PLR2004 the class of server errors
                if method != "GET":
                    raise LostReplyError(*self._told(method, url, response, fault), _LOST) from None
                wait, pause = pause, pause * 2
            elif response.ok and (not response.is_redirect or (elsewhere and self._leads_away(response))):
                return response
            elif (location := _redirect(method, response)) and redirects < _REDIRECTS:
                url, query, redirects = self._same_origin(method, url, location), None, redirects + 1
                continue
            elif (
                limited := rate_limit(response.status_code, response.headers, response.text, time.time())
            ) is None:
                raise ApiError(*self._told(method, url, response, fault), _repair(response)) from None
            else:
                wait = limited
            if wait > self._budget:
                kind = ApiError if limited is None else RateLimitError
                later = f"Gave up: the next attempt would be in {wait:.0f} s. Run it again later."
                raise kind(*self._told(method, url, response, fault), later) from None
            self._budget -= wait
            self._sleep(wait)

    def _once(
        self,
        method: str,
        url: str,
        query: dict[str, str | int] | None,
        body: Any,
        headers: dict[str, str],
    ) -> tuple[requests.Response | None, str]:
        """One request: the reply, or None and what went wrong."""
        sent = {"data": body} if isinstance(body, bytes) else {"json": body}
        try:
            response = self._session.request(
                method, url, params=query, headers=headers, timeout=_TIMEOUT, allow_redirects=False, **sent
            )
        except ValueError:  # requests' own for an address that is none
            detail = f"not an address: {plain(self._root, 200)}"
            check = "Check GITHUB_API_URL, and HTTPS_PROXY where it is set."
            raise ApiError(f"{method} {url.removeprefix(self._root)}", None, detail, check) from None
        except requests.RequestException as error:
            return None, type(error).__name__
        except OSError as error:  # requests' own for certificates that are not there
            detail = plain(str(error), 300)
            check = "Check REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE."
            raise ApiError(f"{method} {url.removeprefix(self._root)}", None, detail, check) from None
        return response, ""

    def _json(self, response: requests.Response) -> Any:
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            method = response.request.method or ""
            kind = ApiError if method == "GET" else LostReplyError
            told = self._told(method, response.url, response, "")
            raise kind(*told[:2], "the answer is not JSON: is this GitHub's API?") from None

    def _told(
        self, method: str, url: str, response: requests.Response | None, fault: str
    ) -> tuple[str, int | None, str]:
        """What an error says: the request, the status, GitHub's own message; never the token."""
        request = f"{method} {urlsplit(url).path}"
        if response is None:
            return request, None, f"{fault} at {urlsplit(self._root).netloc}"
        detail = plain(_message(response), 500)
        return request, response.status_code, detail.replace(self._token, "***") if self._token else detail

    def _same_origin(self, method: str, url: str, target: str) -> str:
        """`target`, which may be relative, as an absolute address of our own server; raises ApiError."""
        try:
            absolute = urljoin(url, target)
            same = _origin(absolute) == _origin(self._root)
        except ValueError:
            same = False
        if not same:
            detail = f"it points to another server: {plain(target, 200)} is not followed"
            raise ApiError(f"{method} {urlsplit(url).path}", None, detail)
        return absolute

    def _leads_away(self, response: requests.Response) -> bool:
        """Whether a redirect goes to another server, or to none."""
        try:
            return _origin(urljoin(response.url, response.headers["location"])) != _origin(self._root)
        except ValueError:
            return True

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _unsigned(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """No credentials, not even those of ~/.netrc."""
    return request


_LOST = "It may have been done or not: look before it is done again."


def rate_limit(status: int, headers: Any, body: str, now: float) -> float | None:
    """Seconds to wait before a refused request may be repeated; None where it is no rate limit.

    `now` in seconds since 1970, as the reset header. The order is that of GitHub's "Best practices for using
    the REST API": Retry-After, then the reset of a used-up primary limit, then a minute.
    """
    if status not in (403, 429):
        return None
    after = headers.get("retry-after", "")
    if re.fullmatch(r"[0-9]{1,9}", after):
        return float(after)
    if headers.get("x-ratelimit-remaining") == "0":
        reset = headers.get("x-ratelimit-reset", "")
        return max(0.0, int(reset) - now) + 1.0 if re.fullmatch(r"[0-9]{1,12}", reset) else _SECONDARY_WAIT
    return _SECONDARY_WAIT if status == 429 or _LIMITED.search(body) else None  # noqa: PLR2004


def _redirect(method: str, response: requests.Response) -> str | None:
    """Where to ask again in the same way; None where the reply is no such redirect."""
    followed = (301, 302, 307, 308) if method == "GET" else (307, 308)
    return response.headers.get("location") if response.status_code in followed else None


def _message(response: requests.Response) -> str:
    """GitHub's own words: `message`, then each of `errors`."""
    try:
        said = response.json()
    except ValueError:
        return response.reason or ""
    if not isinstance(said, dict):
        return ""
    errors = said.get("errors")
    details = [
        str(
            error.get("message")
            or " ".join(str(error.get(key) or "") for key in ("resource", "field", "code"))
        )
        if isinstance(error, dict)
        else str(error)
        for error in (errors if isinstance(errors, list) else [])
    ]
    return "; ".join([str(said.get("message") or ""), *details])


def _repair(response: requests.Response) -> str:
    if response.status_code == 403 and "Resource not accessible" in response.text:  # noqa: PLR2004
        return _FORBIDDEN
    return _REPAIRS.get(response.status_code, "")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)
