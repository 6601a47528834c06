"""Plugins of every kind in a package of their own, installed as any package is: none of our files is touched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "tests" / "data" / "plugin_package"
RUN_EXAMPLES = Path(__file__).with_name("run_example_plugins.py")

PRINT_PROBLEMS = """
import sys
from epp.config.loader import load_config
from epp.config.registry import PluginRegistry
try:
    load_config(sys.stdin.read(), PluginRegistry.load())
except Exception as error:
    print(error)
"""
HEADER = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
"""
CONFIG = (
    HEADER
    + """
plugins:
- type: short-prompt-scorer
  parameters: {shortBytes: 500}
- type: queue-limit-filter
- type: first-picker
- type: distance-producer
- type: tenant-producer
- type: tenant-scorer
- type: prefill-decode-handler
- type: plain-text-parser
- type: recency-scorer
- type: max-score-picker
schedulingProfiles:
- name: decode
  plugins:
  - {pluginRef: queue-limit-filter}
  - {pluginRef: tenant-scorer, weight: 3}
  - {pluginRef: short-prompt-scorer}
  - {pluginRef: recency-scorer}
  - {pluginRef: max-score-picker}
- name: prefill
  plugins: [{pluginRef: first-picker}]
requestHandler: {parsers: [{pluginRef: plain-text-parser}]}
dataLayer: {injectDefaults: false}
"""
)
MISSPELT_HOOK = '''
from example_plugins.hooks import RecencyScorer


class MisspeltScorer(RecencyScorer, type="recency-scorer"):
    def response_completed(self, request, slot, outcome):
        """Never called."""
'''


def install_example_package(site: Path) -> None:
    """What an installer would leave behind for the package: its files, and metadata with its entry points."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    name = project["name"].replace("-", "_")
    shutil.copytree(PACKAGE / name, site / name, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"{name}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in found.items())
        for group, found in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def run_python(site: Path, *arguments: str, text: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(site), str(ROOT)])
    return subprocess.run(
        [sys.executable, *arguments],
        input=text,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
        timeout=60,
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    install_example_package(tmp_path)
    return tmp_path


def test_plugins_of_every_kind_of_another_package_take_part_in_a_request(site: Path) -> None:
    done = run_python(site, str(RUN_EXAMPLES), text=CONFIG)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result.pop("checks") == [
        "board-discovery Discovery",
        "coolest-scorer Scorer",
        "distance-producer Producer",
        "first-picker Picker",
        "plain-text-parser Parser",
        "prefill-decode-handler ProfileHandler",
        "prefill-decode-handler RequestHeaderProvider",
        "queue-limit-filter Filter",
        "recency-scorer LoadEstimator",
        "recency-scorer PrefixCacheStatsProvider",
        "recency-scorer RequestHooks",
        "recency-scorer Scorer",
        "recency-scorer StateDumper",
        "short-prompt-scorer Scorer",
        "state-extractor Extractor",
        "state-push-source DataSource",
        "tenant-producer AsyncProducer",
        "tenant-scorer Scorer",
    ]
    assert result == {
        "destination": "10.0.0.1:3",
        "headers": {"x-prefill": "10.0.0.1:1"},
        "estimated_tokens": 3.0,
        "state": {"chosen": {"0": 1}, "completed": 1},
        "observed_prompts": 1,
        "output_tokens": [4.0],
        "plugin_errors": [],
        "warnings": [
            "plugins[0]: 'short-prompt-scorer' reads running, which no data source reports (line 6)",
            "plugins[1]: 'queue-limit-filter' reads waiting, which no data source reports (line 8)",
        ],
        "short_bytes": 500.0,
    }


def test_a_misspelt_reference_to_such_a_plugin_is_explained(site: Path) -> None:
    done = run_python(site, "-c", PRINT_PROBLEMS, text=HEADER + "plugins:\n- type: short-promt-scorer\n")
    assert "unknown plugin type 'short-promt-scorer'; did you mean short-prompt-scorer? (line 5)" in done.stdout


def test_a_misspelt_hook_of_such_a_plugin_is_reported(site: Path) -> None:
    (site / "example_plugins" / "misspelt.py").write_text(MISSPELT_HOOK)
    points = next(site.glob("*.dist-info")) / "entry_points.txt"
    points.write_text(points.read_text().replace("hooks:RecencyScorer", "misspelt:MisspeltScorer"))
    done = run_python(site, "-m", "epp", "check", "-", text=HEADER + "plugins: [{type: recency-scorer}]")
    assert "response_completed() is never called; did you mean response_complete() of RequestHooks?" in done.stdout


def test_two_packages_of_one_plugin_type_are_refused(site: Path) -> None:
    other = site / "copycat-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: copycat\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text("[epp.plugins]\nshort-prompt-scorer = copycat:Scorer\n")
    load = "from epp.config.registry import PluginRegistry\nPluginRegistry.load()"
    done = run_python(site, "-c", load, text="")
    assert done.returncode == 1
    assert "plugin type 'short-prompt-scorer' is registered twice: by" in done.stderr
    assert "example-plugins (example_plugins.scorer:ShortPromptScorer)" in done.stderr
    assert "copycat (copycat:Scorer)" in done.stderr
