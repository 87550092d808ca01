"""The gate with a judge: what it is given, what it installs, what it keeps, and what it does not believe."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import pytest
import yaml

from gatehouse.rehearse.model import complete
from gatehouse.rehearse.origin import run_git
from tests.support.act import ROOT, ActResult, find_uv, run_act, runner_checkout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatehouse.rehearse.github import GitHub

pytestmark = pytest.mark.timeout(900)  # the two libraries are large

NAME = "acme/handbook"
KEYS = {"MODEL_KEY": "sesame-for-the-model", "JUDGE_KEY": "sesame-for-the-judge"}

AGENT = """
agent:
  name: handbook
  version: 1
  entrypoint: handbook.agent:answer
  model: {{provider: ollama, name: "llama3.1:70b"}}
  evals:
    dataset: evals/golden/handbook.jsonl
    judge: {judge}
    metrics: {metrics}
"""
JUDGED = "{faithfulness: 0.9, grounded: 4}"
RUBRIC = """
rubric:
  shows: [input, answer, contexts]
  criteria: The answer says what the contexts say, and nothing that they do not say.
  anchors:
    1: None of it is in the contexts.
    3: Some of it is not in the contexts.
    5: All of it is in the contexts.
"""
CODE = f"""
import json
import os
from pathlib import Path

ANSWERS = json.loads(Path(__file__).with_name("answers.json").read_text())


def holders(secret):
    return sorted(name for name, value in os.environ.items() if secret in value)


def answer(question):
    if not holders("{KEYS["MODEL_KEY"]}"):
        raise RuntimeError("the model's key is missing: nothing shows that a key would be seen here")
    if holders("{KEYS["JUDGE_KEY"]}"):
        raise RuntimeError(f"the judge's key is in {{holders('{KEYS["JUDGE_KEY"]}')}}")
    return ANSWERS[question]
"""
CASES = {
    "leave": ("How many days of paid leave do I get?", "Employees get 25 days of paid leave a year."),
    "laptop": ("When is my laptop replaced?", "Laptops are replaced every four years."),
    "travel": ("Who pays for the train?", "The company pays for second-class train tickets."),
}
WRONG = "Nobody replaces computers, bring your own machine from home."


class Judge:
    """The stand-in model as a judge who remembers: what was asked, and with which key."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.keys: set[str | None] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def _handler(judge) -> type[BaseHTTPRequestHandler]:  # noqa: N805 `self` is the handler below
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                judge.asked.append(body.decode())
                judge.keys.add(self.headers["Authorization"])
                reply = json.dumps(complete(json.loads(body))).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        return Handler

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def questions(self) -> list[str]:
        """What was asked since this was last called, in any order."""
        asked, self.asked = self.asked, []
        return sorted(asked)


@pytest.fixture
def judge() -> Iterator[Judge]:
    """A judge that has been asked nothing."""
    with Judge() as judge:
        yield judge


def with_inputs(workflow: str, url: str) -> str:
    """A template that hands over the judge's address and a metric of deepeval's; its keys stay as they are.

    The one-job form also looks for the judge's key where it has no business, in installation and tests.
    """
    given = {"threshold": "hallucination=0.9", "judge-base-url": url}
    if "    secrets:\n" in workflow:
        lines = "".join(f"      {name}: {value}\n" for name, value in given.items())
        return workflow.replace("    secrets:\n", f"    with:\n{lines}    secrets:\n")
    # It does not find itself; and INPUT_* is act's own: on GitHub a script has no such variable.
    looks = f"! env | grep -v ^INPUT_ | grep [{KEYS['JUDGE_KEY'][0]}]{KEYS['JUDGE_KEY'][1:]}"
    given |= {"install": f"'{looks}'", "test": f"'{looks}'"}
    lines = "".join(f"          {name}: {value}\n" for name, value in given.items())
    ours = "@v1\n        with:\n"
    return workflow.replace(ours, ours + lines)


class Repository:
    """An agent with a template as its workflow, a pull request on it, and the caches of its runs."""

    def __init__(self, gh: GitHub, suite: Path, folder: Path, judge: Judge, template: str) -> None:
        self.gh, self.suite, self.folder, self.judge = gh, suite, folder, judge
        self.work, self.caches, self.installed = folder / "work", folder / "caches", folder / "installed"
        self.runs = 0
        answers = dict(CASES.values())
        cases = [
            {"id": name, "input": question, "expected": truth, "contexts": [truth]}
            for name, (question, truth) in CASES.items()
        ]
        self.write("handbook/__init__.py", "")
        self.write("handbook/agent.py", CODE)
        self.write("handbook/answers.json", json.dumps(answers))
        self.write("evals/golden/handbook.jsonl", "".join(json.dumps(case) + "\n" for case in cases))
        self.write("evals/rubrics/grounded.yaml", RUBRIC)
        self.hold_to(JUDGED)
        workflow = with_inputs((ROOT / "templates" / template).read_text(), judge.url)
        self.write(".github/workflows/agent-ci.yml", workflow)
        run_git(self.work, "init", "--quiet", "--initial-branch=develop")
        self.commit()
        gh.create_repository(NAME, self.work, default_branch="develop")
        run_git(self.work, "checkout", "--quiet", "-b", "feature/change")

    def write(self, path: str, text: str) -> None:
        """Write a file of the work tree."""
        (self.work / path).parent.mkdir(parents=True, exist_ok=True)
        (self.work / path).write_text(text)

    def hold_to(self, metrics: str) -> None:
        """Write an agent file with these metrics."""
        self.write("agents/handbook.yaml", AGENT.format(judge="openai:judge-70b", metrics=metrics))

    def commit(self) -> None:
        """Commit everything."""
        run_git(self.work, "add", "--all")
        run_git(self.work, "commit", "--quiet", "--allow-empty", "-m", "A change")

    def play(self) -> ActResult:
        """Commit, push, and run the workflow for the pull request as it is then."""
        self.commit()
        url = self.gh.clone_url(NAME, self.gh.token_of("dev", may_write=True))
        run_git(self.work, "push", "--quiet", url, "feature/change")
        if not self.runs:
            self.gh.open_pull(NAME, "feature/change", "develop", "A change")
        self.runs += 1
        event = self.gh.pull_request_event(NAME, 1)
        checkout = runner_checkout(self.gh, NAME, event, self.folder / f"checkout-{self.runs}")
        return run_act(
            checkout,
            "pull_request",
            event,
            self.gh,
            folder=self.folder / f"run-{self.runs}",
            suite=self.suite,
            secrets=KEYS,
            env={"GITHUB_RUN_ID": str(4242 + self.runs), "STAND_INS_UV": str(self.uv())},
            caches=self.caches,
            timeout=300,
        )

    def uv(self) -> Path:
        """A uv that notes what lies in our environment after it has changed it."""
        program = self.folder / "uv"
        program.write_text(f"""#!/bin/sh
"{find_uv()}" "$@" || exit
[ -z "$UV_PROJECT_ENVIRONMENT" ] || echo "$UV_PROJECT_ENVIRONMENT"/lib/*/site-packages/* >> "{self.installed}"
""")
        program.chmod(0o755)
        return program

    def libraries(self) -> list[set[str]]:
        """Which of the two libraries lay in our environment after each installation since the last call."""
        lines = self.installed.read_text().splitlines()
        self.installed.unlink()
        return [
            {name for name in ("ragas", "deepeval") if f"/site-packages/{name} " in f"{line} "}
            for line in lines
        ]

    def kept(self) -> list[Path]:
        """The entries in the caches of the pull request's runs."""
        [scope] = self.caches.iterdir()
        return list(scope.iterdir())

    def verdict(self, result: ActResult) -> dict[str, Any]:
        """The state of each metric."""
        verdict = json.loads((result.artifacts / "gatehouse-eval/handbook/eval.json").read_bytes())
        return {metric["name"]: metric["state"] for metric in verdict["metrics"]}

    def comment(self) -> str:
        """The one comment of the pull request."""
        [comment] = self.gh.comments(NAME, 1)
        return str(comment["body"])


def forge(caches: Path, about: str) -> None:
    """Add a newer entry to the cache, in which one judgement on these words says the contrary."""
    [scope] = caches.iterdir()
    newest = scope / str(len(list(scope.iterdir())))
    forged = scope / str(int(newest.name) + 1)
    shutil.copytree(newest, forged)
    [key, version] = json.loads((forged / "entry.json").read_text())
    (forged / "entry.json").write_text(json.dumps([f"{key}-forged", version]))
    [file] = (forged / "0").iterdir()
    text = file.read_text()
    judgement = next(line for line in text.splitlines() if about in line and '"verdict":1' in line)
    file.write_text(text.replace(judgement, judgement.replace('"verdict":1', '"verdict":0')))


def test_judges_in_the_workflow(gh: GitHub, suite: Path, tmp_path: Path, judge: Judge) -> None:
    """A good change passes, a bad one fails; nothing is judged twice, and no forged judgement counts."""
    repository = Repository(gh, suite, tmp_path, judge, "agent-ci.yml")
    result = repository.play()
    assert set(result.jobs.values()) == {"success"}, result.log
    assert repository.verdict(result) == dict.fromkeys(("faithfulness", "grounded", "hallucination"), "pass")
    for metric in ("faithfulness", "grounded", "hallucination"):
        assert metric in repository.comment()
    first = judge.questions()
    assert len(first) == len(set(first)) > 0
    assert judge.keys == {f"Bearer {KEYS['JUDGE_KEY']}"}
    # plan, run and gate set up Gatehouse alone, and gate then adds what its metrics need; comment does not.
    assert repository.libraries() == [set(), set(), set(), {"ragas", "deepeval"}, set()]
    assert not [name for name in result.artifact("gatehouse-eval") if "judgement" in name]

    forge(repository.caches, CASES["leave"][1])
    wrong = CASES["laptop"][0]
    answers = {question: WRONG if question == wrong else truth for question, truth in CASES.values()}
    repository.write("handbook/answers.json", json.dumps(answers))
    result = repository.play()
    assert result.jobs["gate"] == "failure", result.log
    assert {key for key, value in result.jobs.items() if value == "failure"} == {"gate"}
    assert "fail" in repository.verdict(result).values()
    assert "❌" in repository.comment()
    assert len(repository.kept()) == 3, "the first run's, the forged, and that of the gate that failed"
    again = judge.questions()
    assert len([question for question in again if question in first]) == 1, "of the forged one alone"
    assert len([question for question in again if WRONG in question]) >= 3

    repository.hold_to("{exact_match: 0.5}")
    workflow = (repository.work / ".github/workflows/agent-ci.yml").read_text()
    repository.write(
        ".github/workflows/agent-ci.yml", workflow.replace("threshold: hallucination=0.9", "threshold: ''")
    )
    repository.libraries()
    result = repository.play()
    assert set(result.jobs.values()) == {"success"}, result.log
    assert repository.libraries() == [set()] * 4
    assert judge.questions() == []


def test_judges_in_one_job(gh: GitHub, suite: Path, tmp_path: Path, judge: Judge) -> None:
    """The root action judges too, keeps what was said, and hides the key from installation and tests."""
    repository = Repository(gh, suite, tmp_path, judge, "agent-ci-one-job.yml")
    repository.hold_to("{exact_match: 0.5}")
    result = repository.play()
    assert set(result.jobs.values()) == {"success"}, result.log
    assert "hallucination" in repository.comment()
    assert repository.libraries() == [set(), {"deepeval"}]
    assert judge.questions() != []
    assert judge.keys == {f"Bearer {KEYS['JUDGE_KEY']}"}
    assert repository.play().exit_code == 0
    assert judge.questions() == []


def test_judgements_that_the_run_job_could_sign_are_not_taken(
    gh: GitHub, suite: Path, tmp_path: Path
) -> None:
    """The gate takes kept judgements only where no line of the judge's key is the model's.

    A line break at the end of either key, with which it may have been stored, makes no difference.
    """
    model = "sk-model-0123456789"
    taken = {
        "sk-judge-9876543210": True,
        f"openai=sk-judge-9876543210\\nmistral=x{model}": False,  # what only looks alike is not taken either
        model: False,
        f"openai={model}": False,
        f"anthropic=sk-judge-9876543210\\nopenai={model}": False,
        f"openai={model}\\nanthropic=sk-judge-9876543210\\n": False,
    }
    step = step_of("gate", "Fetch the judgements")
    seen = tmp_path / "seen"

    def says(judge: str, model: str) -> str:
        pattern = step["with"]["pattern"].replace(".judge-key", judge).replace(".model-key", model)
        env = json.dumps({"PATTERN": pattern})
        return f"      - run: echo \"$PATTERN\" >> '{seen}'\n        env: {env}\n"

    pairs = [(f".JUDGE_{i}", name) for name in (".MODEL", ".MODEL_LINE") for i in range(len(taken))]
    steps = "".join(says(judge, name) for judge, name in [*pairs, (".JUDGE_0", ".NONE")])
    work = tmp_path / "work"
    (work / ".github/workflows").mkdir(parents=True)
    (work / ".github/workflows/x.yml").write_text(
        f"on: [push]\njobs:\n  x:\n    runs-on: ubuntu-latest\n    steps:\n{steps}"
    )
    run_git(work, "init", "--quiet", "--initial-branch=develop")
    run_git(work, "add", "--all")
    run_git(work, "commit", "--quiet", "-m", "A workflow")
    gh.create_repository(NAME, work, default_branch="develop")
    event = gh.push_event(NAME, "develop")
    checkout = runner_checkout(gh, NAME, event, tmp_path / "checkout")
    keys = {f"JUDGE_{i}": key.replace("\\n", "\n") for i, key in enumerate(taken)}
    keys |= {"MODEL": model, "MODEL_LINE": f"{model}\n"}
    result = run_act(checkout, "push", event, gh, folder=tmp_path / "run", suite=suite, secrets=keys)
    assert result.exit_code == 0, result.log
    names = {True: "gatehouse-judgements", False: "gatehouse-nothing"}
    assert seen.read_text().splitlines() == [*map(names.get, [*taken.values()] * 2), names[True]]


def step_of(job: str, name: str) -> dict[str, Any]:
    """A step of the workflow."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/agent-ci.yml").read_text())["jobs"]
    [step] = [step for step in jobs[job]["steps"] if step["name"] == name]
    return dict(step)


def run_step(step: dict[str, Any], **env: str) -> str:
    """Run a step's script as a runner's bash does; what it says."""
    command = [str(shutil.which("bash")), "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    env = dict.fromkeys(step["env"], "") | {"PATH": os.environ["PATH"]} | env
    return subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.parametrize("hasher", ["sha256sum", "shasum"])
def test_judgements_are_the_ones_that_plan_handed_on(tmp_path: Path, hasher: str) -> None:
    """The gate drops a file with a line less, what plan did not see, and what is no file; none is fine."""
    programs, folder, said = tmp_path / "bin", tmp_path / "judgements", tmp_path / "said"
    file, lines = folder / "judgements.jsonl", "".join(f'{{"line":{i}}}\n' for i in range(3))
    programs.mkdir()
    for program in ("cut", "rm", hasher):
        (programs / program).symlink_to(str(shutil.which(program) or pytest.skip(f"no {program} here")))
    digest, compare = step_of("plan", "Digest of the judgements"), step_of("gate", "Compare the judgements")
    assert step_of("plan", "Restore the judgements")["if"] == "${{ inputs.reuse-judgements }}"
    assert compare["env"]["SHA256"] == "${{ needs.plan.outputs.judgements }}"

    def handed_on() -> str:
        said.write_text("")
        run_step(digest, FILE=str(file), GITHUB_OUTPUT=str(said), PATH=str(programs))
        return said.read_text().strip().removeprefix("sha256=")

    def compared(sha256: str) -> tuple[bool, bool]:
        said = run_step(compare, FOLDER=str(folder), SHA256=sha256, PATH=str(programs))
        return folder.exists(), "::warning::" in said

    assert handed_on() == ""
    assert compared("") == (False, False)
    folder.mkdir()
    file.write_text(lines)
    sha256 = handed_on()
    assert sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert compared(sha256) == (True, False)
    file.write_text(lines.partition("\n")[2])
    assert compared(sha256) == (False, True)
    folder.mkdir()
    file.write_text(lines)
    assert compared("") == (False, True)
    file.mkdir(parents=True)
    assert compared(sha256) == (False, True)
