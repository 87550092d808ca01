"""Runs workflows by `act` on this machine, as GitHub would, against the stand-in GitHub.

act runs the jobs as plain processes, each in a workspace, home and temporary folder of its own. It ignores
permissions, environments and concurrency, which static checks have to cover.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gatehouse.rehearse.origin import run_git

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.rehearse.github import GitHub

ROOT = Path(__file__).parents[2]
STAND_INS = ROOT / "tests" / "workflows" / "stand_ins"
SUITE = "gatehouse-ci/gatehouse"
REF = "v1"

PINS = {
    "actions/checkout": "3d3c42e5aac5ba805825da76410c181273ba90b1",
    "actions/setup-python": "5fda3b95a4ea91299a34e894583c3862153e4b97",
    "actions/upload-artifact": "043fb46d1a93c77aae656e7c1c64a875d1fc6a0a",
    "actions/download-artifact": "3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c",
    "actions/cache": "55cc8345863c7cc4c66a329aec7e433d2d1c52a9",
    "astral-sh/setup-uv": "20cfd1bf945f4377ade1205e4dbc17946fc9a30d",
    "mikepenz/action-junit-report": "d9f48fc87bc235f7e214acf696ca5abc0a986f16",
}
"""Every third-party action that has a stand-in, at the commit that our files name."""

NETWORK = re.compile(
    r"(?i)((https?|no|all)_proxy|ssl_cert_(file|dir)|requests_ca_bundle|curl_ca_bundle|pip_cert|pip_index_url"
    r"|uv_(default_index|index_url|system_certs|native_tls)|lang|lc_.*|tmpdir|term|user|logname)"
)
"""Variables of this machine that jobs keep: how it reaches package registries, and its language."""


@dataclass
class ActResult:
    """What a run left behind.

    `jobs` maps a job to "success" or "failure"; a skipped one is not there. A job is named by its key, in a
    matrix `key (value, ...)`; one that calls a workflow is not there, the jobs of that workflow are.
    `annotations` are (level, message, properties), `summaries` what the steps of each job wrote.
    """

    exit_code: int
    log: str
    artifacts: Path
    jobs: dict[str, str] = field(default_factory=dict)
    annotations: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    summaries: dict[str, str] = field(default_factory=dict)

    def artifact(self, name: str) -> list[str]:
        """The files of an artifact, as paths below it, sorted."""
        folder = self.artifacts / name
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def require_act() -> Path:
    """The `act` program, built where Go is there to build it; skips the test where neither is."""
    for found in (shutil.which("act"), ROOT / ".tools" / "bin" / "act"):
        if found and Path(found).exists():
            return Path(found)
    go = shutil.which("go")
    if go is None:
        pytest.skip("WORKFLOWS NOT TESTED: `act` is missing, and `go` to build it too (https://go.dev/dl/)")
    target = ROOT / ".tools" / "bin"
    [package] = [line for line in (ROOT / "tools" / "go-tools.txt").read_text().split() if "/act@" in line]
    subprocess.run([go, "install", package], env={**os.environ, "GOBIN": str(target)}, check=True)
    return target / "act"


def materialise(target: Path) -> Path:
    """The suite in `target` as a runner gets it: the files of a commit without `.git`, from the work tree.

    `uses: $/x` is written as `uses: gatehouse-ci/gatehouse/x@v1`, because act does not know it.
    """
    listed = run_git(ROOT, "ls-files", "-co", "--exclude-standard", "-z")
    for name in filter(None, listed.split("\0")):
        source, copy = ROOT / name, target / name
        if not source.exists():
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, copy)
        if copy.suffix in (".yml", ".yaml"):
            text = copy.read_text(encoding="utf-8")
            copy.write_text(without_self_references(text), encoding="utf-8")
    node = run_git(ROOT, "rev-parse", "HEAD")
    tags = run_git(ROOT, "tag", "--list", "v*.*.*", "--merged", "HEAD")
    described = run_git(ROOT, "describe", "--tags", "--match=v*.*.*") if tags else f"v0.1.0-0-g{node[:9]}"
    date = datetime.now(UTC).isoformat(timespec="seconds")
    fields = {"ref-names": f"tag: {REF}", "describe-name": described, "node": node, "node-date": date}
    (target / ".git_archival.txt").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
    return target


def without_self_references(text: str) -> str:
    """A workflow's or an action's text with every `uses: $/x` written with repository and ref."""
    return re.sub(
        r"""(\buses:\s*["']?)\$/([^\s"'#]*)""",
        lambda found: f"{found[1]}{'/'.join(filter(None, [SUITE, found[2]]))}@{REF}",
        text,
    )


def runner_checkout(gh: GitHub, repository: str, event: Mapping[str, Any], target: Path) -> Path:
    """The commit that an event's workflows come from, cloned: a pull request's merge, or the branch."""
    ref = f"refs/pull/{event['number']}/merge" if "pull_request" in event else event["ref"]
    target.mkdir(parents=True)
    run_git(target, "init", "--quiet", "--initial-branch=main")
    run_git(target, "fetch", "--quiet", "--depth=1", gh.clone_url(repository), ref)
    run_git(target, "checkout", "--quiet", "--detach", "FETCH_HEAD")
    return target


def run_act(
    checkout: Path,
    event_name: str,
    event: Mapping[str, Any],
    gh: GitHub,
    *,
    folder: Path,
    suite: Path,
    token: str = "",
    secrets: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    workflow: str = "",
    job: str = "",
    matrix: Mapping[str, str] | None = None,
    attempt: int = 1,
    caches: Path | None = None,
    timeout: float = 150,
) -> ActResult:
    """Run the workflows in `checkout` (by `runner_checkout`) for an event; `suite` is by `materialise`.

    `folder` takes the run's files and artifacts; an `attempt` above 1 in the same folder finds the
    artifacts of the one before; `caches` is the folder of the repository's caches, by default the run's own,
    which are empty. `token` is the job's own, `gh.token` by default. `env` reaches every
    step; act evaluates it in each job. Of a matrix only the jobs with the values of `matrix` run.
    `timeout` is in seconds; raises subprocess.TimeoutExpired. Two things differ from GitHub: steps see a
    terminal, and after a called workflow that failed no later job runs, not even with `if: always()`.
    """
    artifacts, home = folder / "artifacts", folder / f"runner-{attempt}"
    artifacts.mkdir(parents=True, exist_ok=True)
    home.mkdir()
    event_file = home / "event.json"
    event_file.write_text(json.dumps(event))
    job_env = {
        "GITHUB_API_URL": gh.api_url,
        "GITHUB_SERVER_URL": gh.server_url,
        "GITHUB_REPOSITORY": event["repository"]["full_name"],
        "GITHUB_RUN_ID": "4242",
        "GITHUB_RUN_ATTEMPT": str(attempt),
        "SHA_REF": run_git(checkout, "rev-parse", "HEAD"),  # act's own name for what becomes GITHUB_SHA
        **stand_in_environment(artifacts, caches or folder / "caches"),
        **(env or {}),
    }
    arguments = [
        event_name,
        "-e",
        str(event_file),
        "--actor",
        event["sender"]["login"],
        *fixed_options(home, suite),
    ]
    for option, values in (
        ("--env", job_env),
        ("--secret", {"GITHUB_TOKEN": token or gh.token, **(secrets or {})}),
        ("--var", variables or {}),
    ):
        arguments += [part for name, value in values.items() for part in (option, f"{name}={value}")]
    arguments += [part for name, value in (matrix or {}).items() for part in ("--matrix", f"{name}:{value}")]
    arguments += ["-W", workflow] if workflow else []
    arguments += ["-j", job] if job else []
    done = subprocess.run(
        [require_act(), *arguments],
        cwd=checkout,
        env=machine_environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )
    return read_log(ActResult(done.returncode, "", artifacts), done.stdout, done.stderr)


def stand_in_environment(artifacts: Path, caches: Path) -> dict[str, str]:
    """What the stand-in actions are told; and a home for each job."""
    return {
        "HOME": "${{ runner.temp }}/..",  # act evaluates it in each job
        "STAND_INS": str(STAND_INS),
        "STAND_INS_ARTIFACTS": str(artifacts),
        "STAND_INS_CACHE": str(caches),
        "STAND_INS_PYTHON": sys.executable,
        "STAND_INS_PYTHONS": json.dumps(pythons()),
        "STAND_INS_UV": find_uv(),
        "STAND_INS_UV_CACHE": str(ROOT / ".tools" / "uv-cache"),
    }


def fixed_options(home: Path, suite: Path) -> list[str]:
    """Act's options that are the same in every run."""
    options = ["--json", "-P", "ubuntu-latest=-self-hosted", "--no-skip-checkout", "--no-cache-server"]
    options += ["--action-cache-path", str(home / "act")]
    options += ["--concurrent-jobs=1"]  # two at once can meet in an unguarded map of --local-repository
    for option in ("--env-file", "--secret-file", "--var-file", "--input-file"):
        options += [option, os.devnull]  # not what lies in the repository by chance
    for name, pin in PINS.items():
        options += ["--local-repository", f"{name}@{pin}={STAND_INS / name.rpartition('/')[2]}"]
    return [*options, "--local-repository", f"{SUITE}@{REF}={suite}"]


def machine_environment(home: Path) -> dict[str, str]:
    """The variables of a bare runner: the system's programs, and nothing of the test's own environment."""
    kept = {name: value for name, value in os.environ.items() if NETWORK.fullmatch(name)}
    git = shutil.which("git") or ""
    system = [
        "/usr/local/bin",
        "/opt/homebrew/bin",
        "/usr/bin",
        "/bin",
        "/usr/sbin",
        "/sbin",
        str(Path(git).parent),
    ]
    found = os.pathsep.join(dict.fromkeys(folder for folder in system if Path(folder).is_dir()))
    path = f"{patient_shell(home, shutil.which('bash', path=found) or '')}{os.pathsep}{found}"
    return kept | {"PATH": path, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}


def patient_shell(home: Path, bash: str) -> Path:
    """A folder with a bash that stays for a moment after its script has ended.

    On a busy machine act loses what a step writes just before it ends: it reads from a terminal that is gone.
    """
    folder = home / "shell"
    folder.mkdir()
    program = folder / "bash"
    program.write_text(f'#!/bin/sh\n"{bash}" "$@"\ncode=$?\nsleep 0.1\nexit $code\n')
    program.chmod(0o755)
    return folder


def read_log(result: ActResult, stdout: str, stderr: str) -> ActResult:
    """Fill in a result from act's log, one JSON object a line."""
    lines, erred = [], set()
    for line in stdout.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            lines.append(line)
            continue
        name = job_name(entry)
        message = str(entry.get("msg", "")).rstrip("\r\n")
        lines.append(f"[{name}] {'| ' if entry.get('raw_output') else ''}{message}")
        if entry.get("level") == "error" and "command" not in entry and len(entry.get("stepID") or []) < 2:
            erred.add(name)
        if "jobResult" in entry:
            # In a matrix act tells every job that ends after a failed one to have failed too.
            failed = entry["jobResult"] == "failure" and (name in erred or not entry.get("matrix"))
            result.jobs[name] = "failure" if failed or result.jobs.get(name) == "failure" else "success"
        match entry.get("command"):
            case "error" | "warning" | "notice" as level:
                result.annotations.append((level, str(entry.get("arg", "")), entry.get("kvPairs") or {}))
            case "summary":
                result.summaries[name] = result.summaries.get(name, "") + str(entry.get("content", ""))
    result.log = "\n".join([*lines, stderr])
    return result


def job_name(entry: Mapping[str, Any]) -> str:
    """How `ActResult.jobs` names the job of a log line."""
    values = [
        str(value)
        for item in (entry.get("matrix") or {}).values()
        for value in (item.values() if isinstance(item, dict) else [item])
    ]
    return str(entry.get("jobID", "")) + (f" ({', '.join(values)})" if values else "")


@cache
def pythons() -> dict[str, str]:
    """The interpreters of this machine by minor version; each is asked, for a name on PATH may be a shim."""
    found = {}
    for minor in range(11, 15):
        program = shutil.which(f"python3.{minor}")
        ask = "import sys; print(sys.version_info[1], sys._base_executable)"
        if program:
            done = subprocess.run([program, "-I", "-c", ask], capture_output=True, text=True, check=False)
            version, _, path = done.stdout.strip().partition(" ")
            if done.returncode == 0 and version == str(minor):
                found[f"3.{minor}"] = path
    return found


@cache
def find_uv() -> str:
    """This machine's uv, or the one that our own commands installed; "" without."""
    ours = ROOT / ".tools" / "uv" / "bin" / "uv"
    return shutil.which("uv") or (str(ours) if ours.exists() else "")
