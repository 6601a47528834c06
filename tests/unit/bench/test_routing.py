"""bench/routing: equal seeds give equal work, every turn is answered, and one shared prompt does not pin one server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.routing import __main__ as command
from bench.routing import report, workloads
from bench.routing.replay import Replay, ReplayResult
from epp.config import presets

NOWHERE = Path("/nowhere/trace.jsonl")


def shorten_workload(name: str, chats: int) -> workloads.Workload:
    whole = workloads.build_workload(name, 1, NOWHERE)
    return replace(whole, chats=whole.chats[:chats])


def replay_preset(workload: workloads.Workload, preset: str) -> ReplayResult:
    return Replay(workload, preset, presets.read_preset(preset), 1).run()


@pytest.mark.parametrize("name", workloads.SYNTHETIC)
def test_a_seed_determines_the_workload(name: str) -> None:
    first, same, other = (workloads.build_workload(name, seed, NOWHERE) for seed in (1, 1, 2))
    assert first == same
    assert first.chats != other.chats
    assert [chat.starts_at for chat in first.chats] == sorted(chat.starts_at for chat in first.chats)


@pytest.mark.parametrize("policy", ["round-robin", "random", "default"])
def test_every_turn_is_answered_once(policy: str) -> None:
    workload = shorten_workload("chats", 8)
    result = Replay(workload, policy, presets.read_preset(), 1).run()
    turns = sum(len(chat.turns) for chat in workload.chats)
    assert (len(result.ttft), len(result.e2e), sum(result.per_server)) == (turns, turns, turns)
    assert all(0 < first <= whole for first, whole in zip(result.ttft, result.e2e, strict=True))


def test_a_replay_is_deterministic() -> None:
    workload = shorten_workload("bursts", 40)
    assert replay_preset(workload, "default") == replay_preset(workload, "default")


def test_later_turns_hit_the_prefix_cache() -> None:
    result = replay_preset(shorten_workload("chats", 4), "default")
    assert result.hits > 0.6 * result.queries


@pytest.mark.parametrize("name", ["ramp", "document"])
def test_a_shared_prompt_does_not_keep_all_requests_on_one_server(name: str) -> None:
    workload = shorten_workload(name, 200)
    ours, theirs = replay_preset(workload, "default"), replay_preset(workload, "llm-d")
    assert max(theirs.per_server) == 200
    assert max(ours.per_server) < 100


def test_groups_stay_on_the_servers_that_cache_their_prompt() -> None:
    result = replay_preset(shorten_workload("groups", 120), "default")
    assert result.hits > 0.9 * result.queries


def test_equal_hash_ids_of_a_trace_give_equal_text(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    row = '{"timestamp": 0, "input_length": 700, "output_length": 5, "hash_ids": [0, %d]}\n'
    trace.write_text(row % 1 + row % 2)
    first, second = (chat.turns[0].text for chat in workloads.build_workload("mooncake", 1, trace).chats)
    assert len(first) == len(second) == 2800
    assert first[:2048] == second[:2048]
    assert first[2048:] != second[2048:]


def test_a_missing_trace_skips_its_workload(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "routing.json"
    assert command.main(["--only", "mooncake", "--trace", str(NOWHERE), "--out", str(out)]) == 0
    assert f"mooncake is skipped: no trace at {NOWHERE}" in capsys.readouterr().err


def test_an_unknown_workload_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--only", "hut"]) == 2
    assert "unknown workload hut: expected groups, hot" in capsys.readouterr().err


def test_the_table_is_relative_to_llm_d() -> None:
    def summary(scale: float) -> report.ReplaySummary:
        result = ReplayResult([0.1 * scale, 0.3 * scale], [1.0, 3.0], [0.01], [1, 3], queries=10, hits=5)
        return report.summarize_replay(result, slo=0.25)

    text = report.format_text_table({"llm-d": summary(1), "mine": summary(0.5)})
    row = " ".join(text.splitlines()[2].split())
    assert row == "mine 100 ms 0.50 50 ms 150 ms 0.50 2.00 s 1.00 10.0 ms 50% 1.50 100.0%"
    assert summary(1).goodput == 0.5
    assert (
        report.format_markdown_table({"mine": summary(1)}).splitlines()[2].startswith("| mine | 200 ms |  | 100 ms |")
    )
