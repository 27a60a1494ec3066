"""Dockerfile and workflows say what README and pyproject.toml say. Neither is run here."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

workflows = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def python_versions() -> list[str]:
    """Versions in the classifiers."""
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text_of("pyproject.toml"))


def oldest_python() -> str:
    (version,) = re.findall(r'requires-python = ">=([\d.]+)"', text_of("pyproject.toml"))
    return version


def instructions() -> list[tuple[str, str]]:
    """Instruction and argument of each line of the Dockerfile."""
    text = re.sub(r"(?m)^#.*\n", "", text_of("Dockerfile")).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def first_readme_command() -> tuple[list[str], list[str]]:
    line = next(line for line in text_of("README.md").splitlines() if "pip install" in line)
    install, train = line.split("&&")
    return shlex.split(install), shlex.split(train)


def test_the_image_runs_the_first_command_of_the_readme():
    install, train = first_readme_command()
    found = dict(instructions())
    runs = [shlex.split(argument) for name, argument in instructions() if name == "RUN"]
    assert [word for word in runs[-1] if word != "--no-cache-dir"] == install
    assert json.loads(found["CMD"]) == train
    assert found["COPY"] == ". ."


def test_the_image_is_of_a_supported_python_and_has_a_compiler():
    found = dict(instructions())
    assert found["FROM"] == "${BASE}"
    assert re.fullmatch(r"BASE=python:([\d.]+)-slim", found["ARG"])[1] in python_versions()
    packages = next(argument for name, argument in instructions() if "apt-get install" in argument)
    assert "g++" in shlex.split(packages)


def test_instructions_are_known_and_in_the_order_that_docker_needs():
    names = [name for name, _ in instructions()]
    assert set(names) <= {"ARG", "FROM", "RUN", "WORKDIR", "COPY", "CMD"}
    assert names[:2] == ["ARG", "FROM"]
    assert names[-1] == "CMD"
    assert names.index("COPY") < len(names) - 2  # before what is installed from it


def test_what_the_image_leaves_out_is_not_needed():
    for pattern in text_of(".dockerignore").split():
        tracked = [ROOT / name for name in ("configs", "d2ext", "projects", "tools", "README.md")]
        assert not any(path.match(pattern) for path in tracked), pattern


def load(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["on"] = content.pop(True)  # YAML 1.1 reads the key `on` as a truth value
    return content


@workflows
def test_a_workflow_has_the_form_that_github_takes(path):
    content = load(path)
    assert {"name", "on", "permissions", "jobs"} <= set(content)
    jobs = content["jobs"]
    for job in jobs.values():
        assert job["runs-on"]
        assert set(job.get("needs", ())) <= set(jobs)
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            if "uses" in step:
                assert re.fullmatch(r"[\w.-]+/[\w./-]+@[\w./-]+", step["uses"])


@workflows
def test_expressions_of_a_workflow_are_closed_and_name_a_known_context(path):
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"\$\{\{\s*(\w+)\.[\w.]+\s*\}\}", text)
    assert len(found) == text.count("${{")
    assert set(found) <= {"github", "matrix"}


def test_ci_runs_the_one_script_on_every_python_of_the_classifiers():
    job = load(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["ci"]
    assert job["strategy"]["matrix"]["python"] == python_versions()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    setup = next(step for step in job["steps"] if "setup-python" in step.get("uses", ""))
    assert setup["with"]["python-version"] == "${{ matrix.python }}"
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o100
    assert script.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash")


def test_ci_tests_the_oldest_versions_as_documented():
    job = load(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["oldest"]
    _, *commands = "".join(step.get("run", "") for step in job["steps"]).splitlines()
    documented = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
    assert {line.strip() for line in commands} <= {line.strip() for line in documented}


def test_classifiers_begin_with_the_oldest_python_that_pip_accepts():
    versions = python_versions()
    assert versions == sorted(versions, key=lambda text: int(text.split(".")[1]))
    assert versions[0] == oldest_python()


def test_wheels_are_built_by_the_oldest_python_and_released_by_a_tag():
    content = load(ROOT / ".github" / "workflows" / "wheels.yml")
    jobs, oldest = content["jobs"], oldest_python()
    assert content["on"]["push"]["tags"] == ["v*"]
    build = "\n".join(step.get("run", "") for step in jobs["linux"]["steps"])
    assert f"python{oldest} -m venv" in build
    setup = next(step for step in jobs["desktop"]["steps"] if "with" in step)
    assert setup["with"]["python-version"] == oldest
    assert set(jobs["release"]["needs"]) == set(jobs) - {"release"}
    assert "refs/tags/v" in jobs["release"]["if"]
