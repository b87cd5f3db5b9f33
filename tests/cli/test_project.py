"""`sealwire new`: the project that it writes passes its tests, is served and called."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

import sealwire as package
from sealwire import extras
from support.commands import Run, Served, sealwire

SCRIPT = [sys.executable, "-P", "-m", "sealwire"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("new")
    done = sealwire(directory, "new", "my-shop")
    assert done.stdout.splitlines()[-1] == "next: `cd my-shop`, and README.md there"
    return directory / "my-shop"


def test_its_tests_pass(project: Path) -> None:
    environment = {name: os.environ[name] for name in os.environ if not name.startswith(("PYTEST", "COV"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=project, capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_it_is_served_and_called_as_its_readme_says(project: Path) -> None:
    readme = (project / "README.md").read_text()
    commands = [line for line in readme.splitlines() if line.startswith(("sealwire ", "python -m my_shop"))]
    init, keys, serve, client, place, look_up = commands
    for command in (init, keys):
        subprocess.run(
            ["bash", "-c", f"{' '.join(SCRIPT)} {command.removeprefix('sealwire')}"], cwd=project, check=True
        )
    *_, handler, _, config, _, _, reload = serve.split()
    assert (config, reload) == ("server.toml", "--reload")
    with Served(project, reload, handler=handler, script=SCRIPT) as served:
        replies = []
        for command in (client, place, look_up):
            line = command.replace("7443", str(served.port)).replace("sealwire", " ".join(SCRIPT), 1)
            line = re.sub("^python", sys.executable, line)
            done = subprocess.run(["bash", "-c", line], cwd=project, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            replies.append(done.stdout)
        served.signal(signal.SIGTERM)
        assert served.status() == 0
    assert replies[0] == "Receipt(number=1, total=Decimal('25.00'))\n"
    assert [json.loads(reply) for reply in replies[1:]] == [{"number": 2, "total": "12.50"}] * 2


def test_it_installs_sealwire_from_where_this_one_came(project: Path) -> None:
    text = (project / "README.md").read_text()
    command = extras.installing("cli").split("`")[1]
    assert "\npython -m pip install pytest\n" in text
    assert f"\n{command}" in text
    settings = tomllib.loads((project / "pyproject.toml").read_text())
    assert settings["project"]["dependencies"] == [], "an index may have the name for another project"
    assert settings["dependency-groups"] == {"test": ["pytest"]}


def test_it_is_formatted_and_typed(project: Path) -> None:
    for tool in (["ruff", "format", "--check", "--isolated", "--line-length", "120"], ["mypy", "--strict"]):
        if find_spec(tool[0]) is None:
            pytest.skip(f"{tool[0]} is not installed")
        done = subprocess.run(
            [sys.executable, "-m", *tool, "my_shop", *(["tests"] if tool[0] == "ruff" else [])],
            cwd=project, capture_output=True, text=True, check=False,
            env=os.environ | {"MYPYPATH": str(Path(package.__file__).parents[1])},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["a b", "1st", "-x", "class", "json", "sealwire", "é"])
def test_a_name_that_no_package_can_have(run: Run, name: str) -> None:
    run("new", "--", name, status=64)
    assert not Path(name).exists()


def test_nothing_is_overwritten(run: Run) -> None:
    Path("shop").mkdir()
    Path("shop/mine").touch()
    assert "shop: exists and is not empty" in run("new", "shop", status=1).stderr
    assert os.listdir("shop") == ["mine"]
