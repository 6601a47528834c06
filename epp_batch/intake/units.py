"""Builds the units of a run from its recordings: merges equal content, selects models, packs shards, orders units."""

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
"""Limit of a shard's tasks as JSON. The work order is an environment variable, which Linux limits to 128 KiB."""


def build_units(
    recordings: Sequence[Recording],
    rules: ModelRules,
    options: TranscriptionOptions,
    *,
    run: str,
    order: UnitOrder = "submission",
    shard_seconds: float | None = None,
    previous: Sequence[Unit] = (),
    arrange: Callable[[list[Unit]], list[Unit]] | None = None,
) -> list[Unit]:
    """The units of a run in starting order. A unit's name is derived from its work: equal work has an equal name.

    `shard_seconds` packs neighbouring short recordings of one model into shards of at most that many audio seconds.
    `previous` are the units of an earlier submission: recordings keep their output stem, and shards whose tasks are all
    still requested stay unchanged, since their Jobs may be running. `arrange` orders the units for `order="slots"`.
    """
    tasks = _build_tasks(recordings, rules, options, previous)
    shards = _build_shards(tasks, options, shard_seconds, previous)
    units = [_build_unit(run, shard, options) for shard in shards]
    if order == "longest":
        return _sort_longest_first(units)
    if order == "slots":
        if arrange is None:
            raise InputError("--order slots needs accelerators with slots", remedy="use --order longest")
        return arrange(units)
    return units


def _build_tasks(
    recordings: Iterable[Recording], rules: ModelRules, options: TranscriptionOptions, previous: Sequence[Unit]
) -> list[Task]:
    """One task per content and model, with all its output stems; the stem of the previous submission comes first."""
    tasks: dict[str, Task] = {}
    for recording in recordings:
        task = Task(recording=recording, model=rules.select_model(recording))
        key = task.key(options)
        tasks[key] = _merge_recordings(tasks[key], recording) if key in tasks else task
    taken = {stem.casefold() for task in tasks.values() for stem in task.recording.stems}
    stems = {task.key(options): task.stem for unit in previous for task in unit.tasks}
    return [_keep_previous_stem(stems[key], task, taken) if key in stems else task for key, task in tasks.items()]


def _keep_previous_stem(stem: str, task: Task, taken: set[str]) -> Task:
    """Moves its previous stem to the front, unless another recording has that stem now."""
    recording = task.recording
    if stem not in recording.stems and stem.casefold() in taken:
        return task
    stems = (stem, *(other for other in recording.stems if other != stem))
    return Task(recording=msgspec.structs.replace(recording, stems=stems), model=task.model)


def _merge_recordings(task: Task, duplicate: Recording) -> Task:
    """The task with the stems of a recording of equal content added."""
    first = task.recording
    stems = tuple(dict.fromkeys((*first.stems, *duplicate.stems)))
    recording = msgspec.structs.replace(
        first, stems=stems, seconds=first.seconds or duplicate.seconds, reference=first.reference or duplicate.reference
    )
    return Task(recording=recording, model=task.model)


@dataclass
class _OpenShard:
    """A shard that can take more tasks."""

    tasks: list[Task]
    seconds: float
    size: int
    """Bytes of its tasks as JSON."""


def _build_shards(
    tasks: list[Task], options: TranscriptionOptions, max_seconds: float | None, previous: Sequence[Unit]
) -> list[tuple[Task, ...]]:
    """Packs tasks of one model up to `max_seconds` of audio (None: one task per shard), ordered by their first task."""
    by_key = {task.key(options): task for task in tasks}
    kept: dict[str, tuple[str, ...]] = {}
    for unit in previous if max_seconds is not None else ():
        keys = tuple(task.key(options) for task in unit.tasks)
        if all(key in by_key for key in keys):
            kept.update(dict.fromkeys(keys, keys))
    shards: dict[int, list[Task]] = {}
    open_shards: dict[str, _OpenShard] = {}
    emitted: set[str] = set()
    for position, (key, task) in enumerate(by_key.items()):
        if key in kept:
            if key not in emitted:
                emitted.update(kept[key])
                shards[position] = [by_key[other] for other in kept[key]]
            continue
        seconds, size = task.recording.seconds, len(msgspec.json.encode(task))
        if max_seconds is None or seconds is None or seconds > max_seconds:
            shards[position] = [task]
            continue
        shard = open_shards.get(task.model)
        if shard is not None and shard.seconds + seconds <= max_seconds and shard.size + size <= MAX_SHARD_BYTES:
            shard.tasks.append(task)
            shard.seconds += seconds
            shard.size += size
        else:
            open_shards[task.model] = _OpenShard([task], seconds, size)
            shards[position] = open_shards[task.model].tasks
    return [tuple(shards[position]) for position in sorted(shards)]


def _build_unit(run: str, tasks: tuple[Task, ...], options: TranscriptionOptions) -> Unit:
    keys = [task.key(options) for task in tasks]
    digest = keys[0] if len(keys) == 1 else hashlib.sha256("\0".join(keys).encode()).hexdigest()[:12]
    return Unit(name=f"{run}-{digest}", tasks=tasks)


def _sort_longest_first(units: list[Unit]) -> list[Unit]:
    """Sorts by descending duration; an unknown duration counts as the mean of the known ones."""
    known = [unit.seconds for unit in units if unit.seconds is not None]
    mean = sum(known) / len(known) if known else 0.0
    return sorted(units, key=lambda unit: -(mean if unit.seconds is None else unit.seconds))
