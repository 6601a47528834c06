"""A scorer of ten lines in a package of its own, installed as any package is: none of our files is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "data" / "plugin_package"

SCRIPT = """
import sys
from random import Random
from epp.config.loader import load_config
from epp.config.registry import PluginRegistry
from epp.scheduling.profile_run import run_profile
from epp.testing import build_endpoints, build_request, check_scorer

registry = PluginRegistry.load()
assert "short_prompts.scorer" not in sys.modules, "imported before it was named"
plan = load_config(sys.stdin.read(), registry)
profile = plan.profiles["default"]
errors = []
endpoints = build_endpoints(running=[3, 0, 1])
result = run_profile(profile, build_request(text="hi"), endpoints, Random(1), lambda *error: errors.append(error))
check_scorer(profile.scorers[0][2])
print(result.endpoints.endpoint_at(int(result.order[0])).name, result.totals.tolist(), errors)
print(registry.package_of("short-prompt-scorer"), profile.scorers[0][2].short_bytes)
"""

MISSPELT_SCRIPT = """
import sys
from epp.config.loader import load_config
from epp.config.registry import PluginRegistry
try:
    load_config(sys.stdin.read(), PluginRegistry.load())
except Exception as error:
    print(error)
"""

CONFIG = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: short-prompt-scorer
  parameters: {shortBytes: 500}
dataLayer: {injectDefaults: false}
"""


def install(site: Path) -> None:
    """What an installer would leave behind for the package: its files, and metadata with its entry points."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    shutil.copytree(PACKAGE / "short_prompts", site / "short_prompts", ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in found.items())
        for group, found in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def python(site: Path, script: str, text: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", script],
        input=text,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=60,
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    install(tmp_path)
    return tmp_path


def test_a_scorer_of_another_package_runs(site: Path) -> None:
    done = python(site, SCRIPT, CONFIG)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["e1 [0.25, 1.0, 0.5] []", "short-prompts 500.0"]


def test_a_misspelt_reference_to_it_is_explained(site: Path) -> None:
    done = python(site, MISSPELT_SCRIPT, CONFIG.replace("short-prompt-scorer", "short-promt-scorer"))
    assert "unknown plugin type 'short-promt-scorer'; did you mean short-prompt-scorer? (line 5)" in done.stdout


def test_two_packages_of_one_plugin_type_are_refused(site: Path) -> None:
    other = site / "copycat-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: copycat\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text("[epp.plugins]\nshort-prompt-scorer = copycat:Scorer\n")
    done = python(site, "from epp.config.registry import PluginRegistry\nPluginRegistry.load()", "")
    assert done.returncode == 1
    assert "plugin type 'short-prompt-scorer' is registered twice: by" in done.stderr
    assert "short-prompts (short_prompts.scorer:ShortPrompt)" in done.stderr
    assert "copycat (copycat:Scorer)" in done.stderr
