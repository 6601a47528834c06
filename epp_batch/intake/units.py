"""Recordings to units: equal ones together, a model each, shards of short ones, in the order they shall start."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from epp_batch.errors import InputError
from epp_batch.intake.model_rules import ModelRules
from epp_batch.spec import Recording, Task, TranscriptionOptions, Unit

UnitOrder = Literal["submission", "longest", "slots"]
MAX_SHARD_BYTES = 65_536
"""Of a shard's tasks as JSON: Linux refuses environment variables above 128 KiB."""


def build_units(
    recordings: Sequence[Recording],
    rules: ModelRules,
    options: TranscriptionOptions,
    *,
    run: str,
    order: UnitOrder = "submission",
    shard_seconds: float | None = None,
    before: Sequence[Unit] = (),
    arrange: Callable[[list[Unit]], list[Unit]] | None = None,
) -> list[Unit]:
    """The units of a run, each named by what it does, so that the same work has the same name next time.

    `before` are the units of an earlier submission: a recording keeps the output name that it had there, and with
    `shard_seconds` units whose tasks are all still wanted stay as they are, since they may be at work. "slots" takes
    its order from `arrange`.
    """
    tasks = _build_tasks(recordings, rules, options, before)
    shards = _build_shards(tasks, options, shard_seconds, before)
    made = [_build_unit(run, shard, options) for shard in shards]
    if order == "longest":
        return _sort_longest_first(made)
    if order == "slots":
        if arrange is None:
            raise InputError("order by slots needs accelerators", remedy="--order longest")
        return arrange(made)
    return made


def _build_tasks(
    recordings: Iterable[Recording], rules: ModelRules, options: TranscriptionOptions, before: Sequence[Unit]
) -> list[Task]:
    """One task for each content and model, with all output names; the name it had before stays first."""
    tasks: dict[str, Task] = {}
    for recording in recordings:
        task = Task(recording=recording, model=rules.select_model(recording))
        key = task.key(options)
        tasks[key] = _merge_recordings(tasks[key], recording) if key in tasks else task
    taken = {stem.casefold() for task in tasks.values() for stem in task.recording.stems}
    names = {task.key(options): task.stem for unit in before for task in unit.tasks}
    return [_keep_previous_stem(names[key], task, taken) if key in names else task for key, task in tasks.items()]


def _keep_previous_stem(old: str, task: Task, taken: set[str]) -> Task:
    """With its old name first, unless that is another recording's now."""
    recording = task.recording
    if old not in recording.stems and old.casefold() in taken:
        return task
    stems = (old, *(stem for stem in recording.stems if stem != old))
    return Task(recording=msgspec.structs.replace(recording, stems=stems), model=task.model)


def _merge_recordings(task: Task, twin: Recording) -> Task:
    first = task.recording
    stems = tuple(dict.fromkeys((*first.stems, *twin.stems)))
    recording = msgspec.structs.replace(
        first, stems=stems, seconds=first.seconds or twin.seconds, reference=first.reference or twin.reference
    )
    return Task(recording=recording, model=task.model)


@dataclass
class _OpenShard:
    """A shard that still takes tasks."""

    tasks: list[Task]
    seconds: float
    size: int


def _build_shards(
    tasks: list[Task], options: TranscriptionOptions, limit: float | None, before: Sequence[Unit]
) -> list[tuple[Task, ...]]:
    """Neighbours of one model together up to `limit` audio seconds, in the order of their first tasks."""
    by_key = {task.key(options): task for task in tasks}
    kept: dict[str, tuple[str, ...]] = {}
    for unit in before if limit is not None else ():
        keys = tuple(task.key(options) for task in unit.tasks)
        if all(key in by_key for key in keys):
            kept.update(dict.fromkeys(keys, keys))
    shards: dict[int, list[Task]] = {}
    running: dict[str, _OpenShard] = {}
    done: set[str] = set()
    for place, (key, task) in enumerate(by_key.items()):
        if key in kept:
            if key not in done:
                done.update(kept[key])
                shards[place] = [by_key[other] for other in kept[key]]
            continue
        seconds, size = task.recording.seconds, len(msgspec.json.encode(task))
        if limit is None or seconds is None or seconds > limit:
            shards[place] = [task]
            continue
        room = running.get(task.model)
        if room is not None and room.seconds + seconds <= limit and room.size + size <= MAX_SHARD_BYTES:
            room.tasks.append(task)
            room.seconds += seconds
            room.size += size
        else:
            running[task.model] = _OpenShard([task], seconds, size)
            shards[place] = running[task.model].tasks
    return [tuple(shards[place]) for place in sorted(shards)]


def _build_unit(run: str, tasks: tuple[Task, ...], options: TranscriptionOptions) -> Unit:
    keys = [task.key(options) for task in tasks]
    joined = keys[0] if len(keys) == 1 else hashlib.sha256("\0".join(keys).encode()).hexdigest()[:12]
    return Unit(name=f"{run}-{joined}", tasks=tasks)


def _sort_longest_first(made: list[Unit]) -> list[Unit]:
    """Unknown lengths count as the mean of the known ones."""
    known = [unit.seconds for unit in made if unit.seconds is not None]
    mean = sum(known) / len(known) if known else 0.0
    return sorted(made, key=lambda unit: -(mean if unit.seconds is None else unit.seconds))
