"""The release train from the merge to develop to the package on PyPI, each job played as its workflow has it.

The workflows are those of `templates/`: publishing by trusted publishers, an approval before PyPI. Tests and
builds take what they install from the real registries; what is published goes to the stand-ins.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from gatehouse.rehearse import jobs
from gatehouse.rehearse.agent_ci import VERDICTS
from gatehouse.rehearse.runner import MAINTAINER, StepFailedError, WorkflowRun, execute, virtual_environment
from gatehouse.rehearse.state import Refusal
from gatehouse.release.dist import artifact_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatehouse.rehearse.index import Indexes
    from gatehouse.rehearse.runner import Machine
    from gatehouse.release.dist import Build


class Train:
    """Plays a release of the repository of `machine`; files and logs lie below its folder, in `train`.

    `judge` plays agent-ci on a run, or leaves stand-in verdicts, where `asked` is false; None where there are
    no agents. `approve` is shown what would be published, and says whether it is. `say` shows the progress.

    `checklist` is what was done, and where to look; `seconds` the time of each stage by title; `approved` is
    None until somebody was asked.
    """

    def __init__(
        self,
        machine: Machine,
        indexes: Indexes,
        *,
        judge: Callable[[WorkflowRun], Any] | None,
        asked: bool = True,
        approve: Callable[[str], bool],
        say: Callable[[str], None],
        main: str = "main",
        develop: str = "develop",
    ) -> None:
        self.machine, self.indexes, self.folder = machine, indexes, machine.folder / "train"
        self.judge, self.approve, self.say = judge, approve, say
        self.main, self.develop, self.asked = main, develop, asked
        self.approved: bool | None = None
        self.checklist: list[tuple[str, str]] = []
        self.seconds: dict[str, float] = {}
        self.made: Build | None = None

    def ride(self, pull: int) -> None:
        """Play the whole train, the merge of the pull request `pull` first.

        It ends at the approval where nobody gives it. Raises StepFailedError with the message of the first
        command that fails.
        """
        github, name = self.machine.github, self.machine.repository
        github.protect(name, self.main)
        github.create_environment(name, "staging")
        github.create_environment(name, "release", reviewers=(MAINTAINER,))
        self._merge(pull, self.develop)
        develop = f"refs/heads/{self.develop}"
        self._settle_runs(develop)
        with self._stage(f"CI of {self.develop}, its dev build on TestPyPI"):
            side_by_side(lambda: self._dev_build(develop), lambda: self._judge(develop))
        with self._stage("Cut Release"):
            cut = self._cut()
        branch = f"refs/heads/{cut['branch']}"
        with self._stage("Staging"):
            side_by_side(lambda: self._staging(branch), lambda: self._judge(branch))
        self._merge(int(cut["pull-request"]), self.main)
        with self._stage("Tag Release"):
            tag = self._tag()
        with suppress(RejectedError):
            self._release(f"refs/tags/{tag}")

    def surprises(self) -> list[str]:
        """What is not as it must be after a ride; nothing where all is well."""
        if self.made is None:
            return ["nothing was built for a release"]
        github, name = self.machine.github, self.machine.repository
        files, releases = self.indexes.pypi.files(self.made.name), github.releases(name)
        if not self.approved:
            return [
                f"it was rejected, and there is {what}" for what in (*files, *(r["name"] for r in releases))
            ]
        digests = {file.name: file.sha256 for file in self.made.files}
        develop = github.git(name, "tag", "--merged", f"refs/heads/{self.develop}").splitlines()
        branches = github.git(name, "for-each-ref", "--format=%(refname)", "refs/heads/release/").splitlines()
        assets = {asset["name"]: asset["digest"] for one in releases for asset in one["assets"]}
        pulls = [one for one in github.pulls(name) if one["base"]["ref"] == self.main]
        found = [
            (files == digests, f"PyPI has {files}, and built was {digests}"),
            (
                len(releases) == 1 and all(assets.get(n) == f"sha256:{d}" for n, d in digests.items()),
                f"the GitHub Releases hold {assets}",
            ),
            (self.made.tag in develop, f"the tag {self.made.tag} is not in the history of {self.develop}"),
            (not branches, f"{', '.join(branches)} is left"),
            (len(pulls) == 1, f"there are {len(pulls)} pull requests to {self.main}"),
        ]
        return [what for good, what in found if not good]

    def note(self, what: str) -> None:
        """Say what is not as on GitHub, now and on the checklist."""
        self.say(f"- {what}")
        self.checklist.append((what, ""))

    def done(self, what: str, where: str) -> None:
        """Put something on the checklist."""
        self.checklist.append((what, where))

    def _merge(self, number: int, branch: str) -> None:
        with self._stage(f"Merge #{number} to {branch}"):
            try:
                self.machine.github.merge_pull(self.machine.repository, number, login=MAINTAINER)
            except Refusal as refusal:
                repair = f"Merge {branch} into its branch first, and mend what conflicts."
                raise StepFailedError(f"#{number} is not merged to {branch}: {refusal}. {repair}") from None
            self.done(f"#{number} merged to {branch}", f"commit {self._commit(f'refs/heads/{branch}')[:12]}")

    def _settle_runs(self, ref: str) -> None:
        """Let the push have started what is played, and end what else it started: a cut asks for green."""
        github, name, sha = self.machine.github, self.machine.repository, self._commit(ref)
        played = ["ci.yml", *(["agent-ci.yml"] if self.judge else [])]
        started = {Path(run["path"]).name: run["id"] for run in self._waiting(self.develop, sha)}
        for workflow in played:
            if workflow not in started:
                github.add_run(name, workflow, sha, self.develop, status="queued")
                self.note(
                    f"{workflow} does not start on a push to {self.develop}, as it has to: here it does."
                )
        for workflow, run_id in started.items():
            if workflow not in played:
                github.finish_run(run_id)
                self.note(f"{workflow}, which starts on a push to {self.develop}, is taken for green.")

    def _waiting(self, branch: str, sha: str) -> list[dict[str, Any]]:
        """The runs that were started there and are not played yet, as the API shows them."""
        runs = self.machine.github.runs(self.machine.repository)
        at = ("queued", branch, sha)
        return [run for run in runs if (run["status"], run["head_branch"], run["head_sha"]) == at]

    def _dev_build(self, ref: str) -> None:
        with self._run("ci.yml", ref) as (run, inputs):
            self._through_testpypi(run, self._build(run, inputs), inputs)

    def _build(self, run: WorkflowRun, inputs: dict[str, str]) -> Build:
        jobs.test(run, inputs)
        made = jobs.build(run, inputs, self.main)
        folder = run.artifacts / artifact_name(made.name)
        for file in made.files:
            self.done(f"{file.name} built", f"{folder / file.name}\nsha256 {file.sha256}")
        return made

    def _through_testpypi(self, run: WorkflowRun, made: Build, inputs: dict[str, str]) -> None:
        jobs.publish(run, made, self.indexes, "testpypi")
        jobs.verify(run, made, self.indexes, inputs)
        what = f"{made.name} {made.version} published to TestPyPI, installed from there, tried"
        self.done(what, f"{self.machine.folder / 'indexes/testpypi'}\n{run.folder / 'verify'}")

    def _judge(self, ref: str) -> None:
        if not self.judge:
            return
        with self._run("agent-ci.yml", ref) as (run, _):
            self.judge(run)
            for step in run.steps:
                step.require()
        verdict = "a verdict" if self.asked else "a stand-in verdict: none was asked anything"
        self.done(f"Each agent of {ref.split('/', 2)[2]} has {verdict}", str(run.artifacts / VERDICTS))

    def _cut(self) -> dict[str, str]:
        with self._run("cut-release.yml", f"refs/heads/{self.develop}", button=True) as (run, inputs):
            options = {"version": "auto", "develop": self.develop, "main": self.main}
            cut = jobs.with_token(run, "cut", "cut-release", inputs, **options)
        what = f"{cut['branch']} cut from {self.develop} with a dated changelog"
        self.done(f"{what}, pull request #{cut['pull-request']} opened", str(run.folder / "cut"))
        return cut

    def _staging(self, ref: str) -> None:
        with self._run("staging.yml", ref) as (run, inputs):
            self._through_testpypi(run, self._build(run, inputs), inputs)

    def _tag(self) -> str:
        with self._run("tag-release.yml", f"refs/heads/{self.main}", button=True) as (run, inputs):
            tagged = jobs.with_token(run, "tag", "tag-release", inputs, main=self.main)
        self.done(f"{tagged['tag']} tagged", f"commit {tagged['commit'][:12]}")
        return tagged["tag"]

    def _release(self, ref: str) -> None:
        with self._run("release.yml", ref) as (run, inputs):
            with self._stage("Release: build, evidence, TestPyPI"):
                made = self.made = self._build(run, inputs)
                proof = jobs.evidence(run, made, inputs)
                reason = proof["reason"] + ("" if self.asked or not made.agents else " (stand-ins)")
                self.done(f"Evidence: {reason}", str(run.artifacts / jobs.EVIDENCE))
                self._through_testpypi(run, made, inputs)
            self._review(run, approved=self.approve(question(made, reason)))
            with self._stage("Release: PyPI and GitHub Release"):
                jobs.publish(run, made, self.indexes, "pypi")
                self.done(
                    f"{made.name} {made.version} published to PyPI", str(self.machine.folder / "indexes/pypi")
                )
                released = self.machine.ask("GET", f"releases/{jobs.github_release(run, made)['id']}")
                self.done(
                    f"GitHub Release {released['tag_name']} with {len(released['assets'])} files",
                    str(self._keep(released)),
                )
            with self._stage("Finish Release"):
                self._finish(run, made, inputs)
        with self._stage("pip install from PyPI"):
            self._install(made)

    def _review(self, run: WorkflowRun, *, approved: bool) -> None:
        """The reviewer's answer to the job that waits; raises RejectedError where it is no."""
        self.machine.github.await_approval(run.run_id, "release")
        path = f"actions/runs/{run.run_id}/pending_deployments"
        waiting = [one["environment"]["id"] for one in self.machine.ask("GET", path)]
        state, comment = ("approved" if approved else "rejected"), "Rehearsed"
        self.machine.ask("POST", path, {"environment_ids": waiting, "state": state, "comment": comment})
        self.approved = approved
        if not approved:
            raise RejectedError
        self.done("The publication on PyPI approved", f"environment release, run {run.run_id}")

    def _finish(self, run: WorkflowRun, made: Build, inputs: dict[str, str]) -> None:
        options = {"version": made.version, "develop": self.develop, "main": self.main}
        finished = jobs.with_token(run, "finish", "finish-release", inputs, **options)
        if finished["merged"] != "true":
            raise StepFailedError(f"{self.main} is not merged back: see {run.folder / 'finish'}")
        self.done(f"{made.tag} merged back to {self.develop}", str(run.folder / "finish"))
        if finished["branch-deleted"] == "true":
            self.done("The release branch is gone", str(run.folder / "finish"))

    def _install(self, made: Build) -> None:
        """What a user does; raises StepFailedError unless the bytes are those that were built."""
        folder = self.folder / "install"
        python = virtual_environment(folder / "environment", seed=True)
        variables = {k: v for k, v in self.machine.variables().items() if not k.startswith("PIP_")}
        report = folder / "report.json"
        command = [python, "-m", "pip", "install", "--quiet", "--report", str(report)]
        execute(
            [*command, "--index-url", "https://pypi.org/simple/", f"{made.name}=={made.version}"],
            variables | {"PIP_CONFIG_FILE": os.devnull} | self.indexes.environment,
        )
        installed = json.loads(report.read_bytes())["install"]
        digests = {item["download_info"]["archive_info"]["hashes"]["sha256"] for item in installed}
        built = {file.sha256 for file in made.files}
        if not digests & built or set(self.indexes.pypi.files(made.name).values()) != built:
            raise StepFailedError(f"What PyPI has is not what was built: {sorted(digests)}, see {report}")
        self.done(f"pip install {made.name}=={made.version} got the bytes that build made", str(report))

    def _keep(self, released: dict[str, Any]) -> Path:
        """The GitHub Release, and its notes, for a reader."""
        (self.folder / "release.json").write_text(json.dumps(released, indent=1), encoding="utf-8")
        notes = self.folder / "release-notes.md"
        notes.write_text(f"# {released['name']}\n\n{released['body']}\n", encoding="utf-8")
        return notes

    @contextmanager
    def _run(
        self, workflow: str, ref: str, *, button: bool = False
    ) -> Iterator[tuple[WorkflowRun, dict[str, str]]]:
        """A run of a workflow on `ref`, and the inputs that its file gives; it ends as what is played does.

        It is the one that waits there, or one that a person starts by its button.
        """
        sha, branch = self._commit(ref), ref.split("/", 2)[2]
        if button:
            self.machine.ask("POST", f"actions/workflows/{workflow}/dispatches", {"ref": branch})
        path = f".github/workflows/{workflow}"
        waiting = [run for run in self._waiting(branch, sha) if run["path"] == path]
        if not waiting:
            raise StepFailedError(f"Nothing has started {workflow} on {branch}, which had to run there.")
        github, name = self.machine.github, self.machine.repository
        payload = github.dispatch_event(name, workflow, ref, {})
        if waiting[0]["event"] == "push":
            payload = github.push_event(name, ref)
        run = WorkflowRun(
            self.machine,
            workflow,
            self.folder / f"{workflow.removesuffix('.yml')}-{branch.replace('/', '-')}",
            event_name=waiting[0]["event"],
            event=payload,
            ref=ref,
            sha=sha,
            run_id=waiting[0]["id"],
            number=waiting[0]["run_number"],
        )
        text = github.git(name, "show", f"{sha}:{path}")
        try:
            yield run, jobs.inputs_of(text)
        except BaseException:
            run.finish("failure")
            raise
        run.finish("success")

    @contextmanager
    def _stage(self, title: str) -> Iterator[None]:
        started = monotonic()
        self.say(f"{title} ...")
        yield
        self.seconds[title] = monotonic() - started

    def _commit(self, ref: str) -> str:
        return self.machine.github.git(self.machine.repository, "rev-parse", f"{ref}^{{commit}}")


class RejectedError(Exception):
    """Nobody approved; what was published until then stays."""


def question(made: Build, evidence: str) -> str:
    """What the reviewer of the environment `release` is shown."""
    files = [f"  {file.name}  {file.size:,} bytes  sha256 {file.sha256}" for file in made.files]
    told = [f"{made.name} {made.version}, built from {made.tag or made.ref} at {made.commit[:12]}:", *files]
    return "\n".join(
        [*told, f"  evidence: {evidence}", "  It is on TestPyPI, was installed from there, and works."]
    )


def side_by_side(*tasks: Callable[[], None]) -> None:
    """Play what does not wait for each other at once; raises what the first of them that fails raises."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        for future in [pool.submit(task) for task in tasks]:
            future.result()
