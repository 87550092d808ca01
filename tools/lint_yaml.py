"""Checks every action, workflow and template: zizmor, GitHub's own language service and actionlint.

Each finds what the others cannot: zizmor what is unsafe, the language service what GitHub would refuse,
actionlint inputs and outputs that do not exist. A missing tool is a warning, and an error where CI is set.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
OWN = "gatehouse-ci/gatehouse"
NEWER = r'property "workflow_(repository|sha|ref|file_path)" is not defined in object type'
"""What actionlint 1.7.12 does not know yet: where a reusable workflow itself comes from."""


def yaml_files(root: Path) -> list[str]:
    """Paths from the root of all actions and workflows, those that users copy included."""
    patterns = (
        "action.yml",
        "actions/*/action.yml",
        ".github/workflows/*.yml",
        "templates/**/*.yml",
        "examples/*/.github/workflows/*.yml",
    )
    return sorted({str(path.relative_to(root)) for pattern in patterns for path in root.glob(pattern)})


def as_local(text: str) -> str:
    """The YAML with every call of our own suite as `./path`, the one spelling that actionlint follows."""
    text = re.sub(r"(uses:\s*)\$/", r"\1./", text)
    return re.sub(rf"(uses:\s*){OWN}(/[^@\s]*)?@\S+", lambda m: f"{m[1]}.{m[2] or '/'}", text)


def copy_for_actionlint(files: list[str], folder: Path) -> dict[str, str]:
    """Write a rewritten copy of the files; returns the path of each workflow by that of its copy."""
    workflows = {}
    for name in files:
        target = name
        if not name.endswith("action.yml"):
            if not name.startswith(".github/"):
                target = ".github/workflows/" + name.replace("/", "--")
            workflows[target] = name
        path = folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_local((ROOT / name).read_text()))
    (folder / ".git").mkdir()  # actionlint looks for it to find the project's root
    return workflows


def actionlint(program: str, files: list[str]) -> bool:
    """Whether actionlint finds nothing; its findings are printed with the paths of the originals."""
    with tempfile.TemporaryDirectory() as name:
        workflows = copy_for_actionlint(files, Path(name))
        # shellcheck and pyflakes are used where they happen to be installed: off, so that all machines agree.
        command = [program, "-no-color", "-shellcheck=", "-pyflakes=", "-ignore", NEWER, *workflows]
        done = subprocess.run(command, cwd=name, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    for copy, original in workflows.items():
        output = output.replace(copy, original)
    print(output, end="")
    return done.returncode == 0


def program(name: str) -> str | None:
    """Our own build of a tool, else the one on PATH."""
    ours = TOOLS / "bin" / name
    return str(ours) if ours.is_file() else shutil.which(name)


def why_missing(step: str, needs: str, *programs: str) -> str:
    """Why a tool is not there: its installation by `step` needs programs that are not, or it failed."""
    if all(map(shutil.which, programs)):
        return f"not installed: `python3 tools/bootstrap.py {step}` installs it, or says why it cannot"
    return f"needs {needs}"


def main() -> int:
    """Run every tool over every file; 1 when one found something, or when one is missing in CI."""
    files = yaml_files(ROOT)
    print(f"{len(files)} actions, workflows and templates")
    if not files:
        print(
            "ERROR: there is nothing to check; the patterns in tools/lint_yaml.py are wrong.", file=sys.stderr
        )
        return 1
    passed = True
    zizmor = [
        str(Path(sys.executable).parent / "zizmor"),
        "--offline",
        "--persona",
        "pedantic",
        "--no-progress",
    ]
    zizmor += ["--config", "tools/zizmor.yml"]
    passed &= subprocess.run([*zizmor, *files], cwd=ROOT, check=False).returncode == 0
    missing = []
    node = shutil.which("node")
    if node and (TOOLS / "langcheck.mjs").is_file():
        command = [node, str(TOOLS / "langcheck.mjs"), *files]
        passed &= subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    else:
        why = why_missing("langcheck", "Node.js with npm", "node", "npm")
        missing.append(f"GitHub's language service ({why})")
    found = program("actionlint")
    if found:
        passed &= actionlint(found, files)
    else:
        missing.append(f"actionlint ({why_missing('go', 'Go', 'go')})")
    strict = bool(os.environ.get("CI"))
    for tool in missing:
        print(f"{'ERROR' if strict else 'WARNING'}: not checked by {tool}", file=sys.stderr)
    return 0 if passed and not (missing and strict) else 1


if __name__ == "__main__":
    sys.exit(main())
