"""Tools that read the source or its dependencies: bandit, semgrep, ruff, pip, pip-audit, and the sanitizers."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

from audit.accepted import BANDIT, SEMGREP
from audit.judgement import ROOT, TOOLS, Judgement, note, program, run, version

SOURCE = "the source, `src`"
REASON = re.compile(r"noqa: (?P<rules>[A-Z0-9, ]+) - (?P<reason>.+)")
SAMPLE = """\
context.verify_mode = ssl.CERT_NONE
context.minimum_version = ssl.TLSVersion.TLSv1_2
if tag == other: pass
pickle.loads(payload)
eval(name)
importlib.import_module(name)
hashlib.md5(data)
random.randint(1, 2)
sock.bind(("0.0.0.0", 1))
tempfile.mktemp()
raise ValueError(f"bad: {payload}")
"""
"""What the rules of semgrep.yml must find, one line each."""
EXTRAS = ("prometheus", "otel", "celery", "dtls", "nats", "cli", "plot")


def bandit() -> Judgement:
    """Let bandit read the source. A finding is accepted if its line gives the reason, or by the table."""
    tool = program("bandit")
    if tool is None:
        return Judgement("bandit", SOURCE, missing="not installed; `make audit` installs it")
    found = Judgement(f"bandit {version(tool, '--version')}", SOURCE)
    report = json.loads(run(tool, "-q", "-r", "src", "-f", "json", cwd=ROOT).stdout)
    counts: Counter[tuple[str, str]] = Counter()
    rest = []
    for each in report["results"]:
        reason = REASON.search((ROOT / each["filename"]).read_text().splitlines()[each["line_number"] - 1])
        counts[each["test_id"], each["test_name"]] += 1
        line = f"{each['test_id']} {each['filename']}"
        if each["test_id"] == "B101":
            continue  # tests/test_exemptions.py wants a reason beside each
        if reason is None or each["test_id"].replace("B", "S", 1) not in reason["rules"]:
            rest.append(line)
        else:
            found.accepted.append((line, reason["reason"]))
    found.judge(rest, BANDIT)
    found.verdict = (
        f"{len(report['results'])} findings, each of them explained: on its own line of the source, or below. "
        "The assertions tell the type checker what the code around them has made sure of; no check of input is one."
    )
    found.bad += [f"{each['filename']}: {each['reason']}" for each in report["errors"]]
    found.table = [("rule", "findings"), *((f"{rule} {name}", str(n)) for (rule, name), n in sorted(counts.items()))]
    return found


def semgrep() -> Judgement:
    """Let semgrep apply the rules of this directory to the source."""
    tool = program("semgrep")
    if tool is None:
        return Judgement("semgrep", SOURCE, missing="not installed; `make audit` installs it")
    found = Judgement(f"semgrep {version(str(TOOLS / 'pip'), 'show', 'semgrep')}", SOURCE)
    rules = Path(__file__).with_name("semgrep.yml")
    quiet = ("--metrics", "off", "--disable-version-check", "--json", "--no-git-ignore", "--config", str(rules))
    with tempfile.TemporaryDirectory() as directory:
        sample = Path(directory) / "sample.py"
        sample.write_text(SAMPLE)
        done = run(tool, "scan", *quiet, "src", str(sample), cwd=ROOT, seconds=300)
    try:
        report = json.loads(done.stdout)
    except json.JSONDecodeError:
        found.bad.append(done.stderr[-300:])
        return found
    tried = {each["check_id"].rpartition(".")[2] for each in report["results"] if each["path"] == str(sample)}
    names = re.findall(r"^  - id: (.+)$", rules.read_text(), re.MULTILINE)
    lines = [f"{each['check_id'].rpartition('.')[2]} {each['path']}" for each in report["results"]]
    lines = [line for line in lines if not line.endswith(str(sample))]
    found.bad += [f"{name} does not find its sample" for name in names if name not in tried]
    found.verdict = (
        f"{len(names)} rules of `tests/audit/semgrep.yml` on {len(report['paths']['scanned']) - 1} files, each tried "
        "on a line that it must find. Public collections of rules cannot be had without a network."
    )
    counts = Counter(line.partition(" ")[0] for line in lines)
    found.table = [("rule", "findings"), *((name, str(counts[name])) for name in names)]
    found.judge(sorted(set(lines)), SEMGREP)
    found.bad += [each["message"] for each in report["errors"]]
    return found


def ruff() -> Judgement:
    """Let ruff's security rules read everything, with the exceptions of pyproject.toml and of the lines."""
    tool = str(Path(sys.executable).with_name("ruff"))
    found = Judgement(f"ruff {version(tool, '--version')}, rules S (flake8-bandit)", "all Python files")
    done = run(tool, "check", "--select", "S", "--output-format", "concise", ".", cwd=ROOT)
    found.bad += done.stdout.splitlines() if done.returncode else []
    ours = run(tool, "check", "--isolated", "--select", "S", "--ignore-noqa", "--statistics", "src", cwd=ROOT)
    found.table = [("rule", "exceptions in `src`, each with its reason")]
    for line in sorted(ours.stdout.splitlines(), key=lambda each: each.split()[1:2]):
        count, rule, *name = line.split()
        if re.fullmatch(r"S\d+", rule):
            found.table.append((f"{rule} {name[-1]}", count))
    found.verdict = "No finding without a reason. `pyproject.toml` has those that hold for tests."
    return found


def dependencies() -> Judgement:
    """List what pip would install for users, with hashes."""
    subject = "what `pip install` takes today for Sealwire with all extras"
    found = Judgement(f"pip {version(sys.executable, '-m', 'pip', '--version')}", subject)
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        quiet = ("--quiet", "--dry-run", "--ignore-installed", "--only-binary", ":all:", "--report", str(report))
        # Without the native core, which would be compiled.
        command = ("env", "CC=false", sys.executable, "-m", "pip", "install", *quiet)
        done = run(*command, f"{ROOT}[{','.join(EXTRAS)}]", seconds=550)
        if not report.exists():
            found.missing = f"no index of packages can be reached ({' '.join(done.stderr.split())[-100:]})"
            return found
        installed = json.loads(report.read_text())["install"]
    found.table = [("package", "version", "license", "needed by", "SHA-256 of the file for this machine")]
    for each in sorted(installed, key=lambda each: each["metadata"]["name"].lower()):
        metadata = each["metadata"]
        name = metadata["name"]
        if name == "sealwire":
            continue
        digest = each["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256", "")
        if not digest:
            found.bad.append(f"{name}: no hash")
        found.table.append((name, metadata["version"], licence(metadata), needed_by(name, installed), f"`{digest}`"))
    found.verdict = (
        f"The core needs `cryptography` and what that needs; with all extras it is {len(found.table) - 1} packages. "
        "Each file comes with a hash: `pip install --require-hashes` demands it."
    )
    return found


def licence(metadata: dict[str, object]) -> str:
    """Return the licence that a package names, in a few words."""
    named = str(metadata.get("license_expression") or metadata.get("license") or "").strip().partition("\n")[0]
    classifiers = metadata.get("classifier")
    if (not named or len(named) > 60 or "copyright" in named.lower() or "===" in named) and isinstance(
        classifiers, list
    ):
        named = ", ".join(each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License")) or named
    return named[:60] or "?"


def needed_by(name: str, installed: list[dict[str, dict[str, object]]]) -> str:
    """Return the packages that require one, of extras only Sealwire's."""
    wanted = re.sub(r"[-_.]+", "-", name).lower()
    found = []
    for each in installed:
        requires = each["metadata"].get("requires_dist") or []
        assert isinstance(requires, list)
        own = str(each["metadata"]["name"])
        needed = (line for line in requires if own == "sealwire" or not re.search(r"\bextra *==", line))
        if wanted in {re.sub(r"[-_.]+", "-", re.split(r"[\s;<>=!~(\[]", line)[0]).lower() for line in needed}:
            found.append(own)
    return ", ".join(sorted(found, key=str.lower))


def pip_audit() -> Judgement:
    """Look for known vulnerabilities of the dependencies, if the database can be reached."""
    tool = program("pip-audit")
    subject = "known vulnerabilities of the dependencies in the development environment"
    if tool is None:
        return Judgement("pip-audit", subject, missing="not installed; `make audit` installs it")
    found = Judgement(f"pip-audit {version(tool, '--version')}", subject)
    freeze = run(sys.executable, "-m", "pip", "list", "--format", "json")
    ours = {"cryptography", "cffi", "pycparser", "pyopenssl", "click", "rich", "tomlkit", "celery", "kombu", "nats-py"}
    pinned = [
        f"{each['name']}=={each['version']}" for each in json.loads(freeze.stdout) if each["name"].lower() in ours
    ]
    with tempfile.TemporaryDirectory() as directory:
        wanted = Path(directory) / "requirements.txt"
        wanted.write_text("\n".join(pinned))
        done = run(
            tool,
            "-r",
            str(wanted),
            "--no-deps",
            "--disable-pip",
            "-f",
            "json",
            "--progress-spinner",
            "off",
            "--timeout",
            "10",
        )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        packages = []
    if not any("vulns" in each for each in packages):
        found.missing = "its database of vulnerabilities cannot be reached from here"
        return found
    found.bad += [
        f"{each['name']} {each['version']}: {flaw['id']}" for each in packages for flaw in each.get("vulns", [])
    ]
    found.verdict = f"{sum('vulns' in each for each in packages)} packages without a known vulnerability."
    return found


def sanitizers() -> Judgement:
    """Take the result of ``make test-sanitized``, which is run unless there is one of this source."""
    found = Judgement(f"The sanitizers of gcc {version('cc', '--version')}", "the native core, `make test-sanitized`")
    log = ROOT / ".sanitized" / "log"
    newest = max(each.stat().st_mtime for each in (ROOT / "src/sealwire/native").glob("*.p*"))
    if not log.exists() or log.stat().st_mtime < newest:
        note("make test-sanitized takes some minutes")
        run("make", "-s", "test-sanitized", seconds=3000, cwd=ROOT)
    said = log.read_text() if log.exists() else ""
    summary = re.search(r"^(\d+) passed", said, re.MULTILINE)
    if summary is None or "failed" in said or any(log.parent.glob("report.*")):
        found.bad.append(said[-500:] or "it could not be compiled")
    found.verdict = (
        f"{summary[1] if summary else 0} tests of messages, mutants and attacks, on a core that stops at a "
        "wrong address or at undefined behaviour, without a report."
    )
    return found
