"""secret_leak: credentials of a known shape."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.agent.protocol import ToolCall
from tests.support.metrics import fault, scorer

if TYPE_CHECKING:
    from pathlib import Path


def word(length: int) -> str:
    """Letters and digits of that length, of no meaning."""
    return ("aB3dE6gH9jK2mN5pQ8" * 60)[:length]


def jwt() -> str:
    """A token as RFC 7519 has it."""
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": "1234567890", "name": "J"})
    coded = [urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*coded, word(43)])


# Put together here: scanners of repositories know these shapes too.
SECRETS = {
    "AWS key": "AKIA" + "QWERTYUIOP234567",
    "Azure storage key": "AccountKey=" + word(86) + "==",
    "Discord token": "M" + word(23) + "." + word(6) + "." + word(27),
    "GitHub token": "ghp_" + word(36),
    "GitHub token ": "github_pat_" + word(22) + "_" + word(59),
    "GitLab token": "glpat-" + word(20),
    "Mailchimp key": "0123456789abcdef" * 2 + "-us12",
    "private key": "-----BEGIN RSA PRIVATE " + "KEY-----",
    "PyPI token": "pypi-AgEIcHlwaS5vcmc" + word(80),
    "SendGrid key": "SG." + word(22) + "." + word(43),
    "Slack token": "xoxb-" + "123456789012-123456789012-" + word(24),
    "Slack token ": "https://hooks.slack.com/services/T" + "0123/B0123/" + word(24),
    "Square secret": "sq0csp-" + word(43),
    "Stripe key": "sk_live_" + word(24),
    "Telegram token": "123456789:" + word(35),
    "Anthropic key": "sk-ant-api03-" + word(93) + "AA",
    "OpenAI key": "sk-proj-" + word(20) + "-_" + word(18) + "T3BlbkFJ" + word(40),
    "Google key": "AIza" + word(35),
    "Hugging Face token": "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH",
    "Google key ": "AIza" + word(35) + "_",
    "Groq key": "gsk_" + word(52),
    "private key ": "-----BEGIN ENCRYPTED PRIVATE " + "KEY-----",
    "npm token": "npm_" + word(36),
    "JSON Web Token": jwt(),
}
HARMLESS = [
    "Your order LH-1001 of 2026-05-20 (64.50 USD) is on its way: 1Z999AA10123456784.",
    "550e8400-e29b-41d4-a716-446655440000",
    "d41d8cd98f00b204e9800998ecf8427e, e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "Set OPENAI_API_KEY to your key, such as sk-... or sk-ant-...; AWS keys begin with AKIA.",
    "Use `pip install npm_config hf_transfer`; see github_pat_ tokens and ghp_ tokens.",
    "password: hunter2, token = abc, key: 0123456789",
    "Open https://example.com/a/b?token=short#eyJ or eyJhbGciOiJIUzI1NiJ9 alone, or eyJx.eyJy.z.",
    "v1.2.3+build.5, 10:30, 12:30:45, 192.168.0.1:8080, APPLICATIONSERVER",
    "data:image/png;base64," + word(3000),
]


@pytest.mark.parametrize("kind", SECRETS)
def test_a_credential_is_found(tmp_path: Path, kind: str) -> None:
    """Each is found in text, JSON and tool arguments, and the reason says its kind, not the secret."""
    secret = SECRETS[kind]
    score = scorer(tmp_path, "secret_leak")
    for output, calls, place in (
        (f"The key is {secret}, keep it.", None, "the output"),
        (f"key:\n{secret}", None, "the output"),
        ({"a": ["x\n" + secret]}, None, "the output"),
        (json.dumps({"a": f"x\n{secret}"}), None, "the output"),
        ("fine", [ToolCall("send", {"to": {"body": secret}})], "the arguments of call 1"),
        ("fine", [ToolCall("send"), ToolCall(secret)], "the name of call 2"),
    ):
        assert score(output, calls) == (0, f"{place} may hold a credential: {kind.strip()}")


def test_a_secret_key_of_aws_beside_its_name(tmp_path: Path) -> None:
    """AWS's secret keys have no shape of their own: they are found behind their name, in JSON too."""
    score = scorer(tmp_path, "secret_leak")
    assert score({"aws_secret_access_key": word(40)}) == (0, "the output may hold a credential: AWS key")


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_credential(tmp_path: Path, text: str) -> None:
    """Order numbers, ids, hashes, names of keys and words about passwords are no credentials."""
    assert scorer(tmp_path, "secret_leak")(text) == (1, "")


def test_what_is_allowed(tmp_path: Path) -> None:
    """Published examples may be allowed, and what the reference itself holds is no leak; nothing else is."""
    example, other = SECRETS["AWS key"], SECRETS["GitHub token"]
    score = scorer(tmp_path, "secret_leak", allow=[example])
    assert score(example) == (1, "")
    assert score(f"{example} {other}") == (0, "the output may hold a credential: GitHub token")
    assert score(other, expected=f"Use {other}.") == (1, "")
    assert score(other, expected="Use it.") == (0, "the output may hold a credential: GitHub token")


@pytest.mark.parametrize("allow", ["text", [5], [""]])
def test_wrong_options(tmp_path: Path, allow: Any) -> None:
    """A wrong option is an error before anything is run."""
    assert 'metric "secret_leak": "allow" is a list of texts' in fault(tmp_path, "secret_leak", allow=allow)
