"""The published GPUs keep to the limits of the API and to the arithmetic of MIG."""

from __future__ import annotations

import itertools
import re
from collections import Counter

import pytest

from tests.kube.cluster.client import Object
from tests.kube.cluster.containers import parse_quantity
from tests.kube.cluster.mig import A100_40, H100_80, GpuModel, build_resource_slices


def devices(gpu: GpuModel) -> list[Object]:
    return next(
        part["spec"]["devices"] for part in build_resource_slices("n", "uid", [gpu]) if "devices" in part["spec"]
    )


def counters(gpu: GpuModel) -> Object:
    return build_resource_slices("n", "uid", [gpu])[0]["spec"]["sharedCounters"][0]["counters"]


def fit(gpu: GpuModel, names: tuple[str, ...]) -> bool:
    """Whether the devices can be held at the same time."""
    total: Counter[str] = Counter()
    for device in devices(gpu):
        if device["name"] in names:
            total.update(
                {k: int(parse_quantity(v["value"])) for k, v in device["consumesCounters"][0]["counters"].items()}
            )
    return all(used <= parse_quantity(counters(gpu)[name]["value"]) for name, used in total.items())


@pytest.mark.parametrize("gpu", [A100_40, H100_80])
def test_slices_keep_to_the_limits_of_the_api(gpu: GpuModel) -> None:
    parts = build_resource_slices("node", "uid", [gpu] * 10)
    assert {part["spec"]["pool"]["resourceSliceCount"] for part in parts} == {len(parts)}
    assert len({part["metadata"]["name"] for part in parts}) == len(parts)
    for part in parts:
        assert ("devices" in part["spec"]) != ("sharedCounters" in part["spec"])
        assert len(part["spec"].get("sharedCounters", [])) <= 8
        assert len(part["spec"].get("devices", [])) <= 64
        for device in part["spec"].get("devices", []):
            assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", device["name"])
            assert len(device["consumesCounters"][0]["counters"]) <= 32


@pytest.mark.parametrize("gpu", [A100_40, H100_80])
def test_every_placement_fits_alone_and_nothing_fits_beside_the_whole(gpu: GpuModel) -> None:
    names = [device["name"] for device in devices(gpu)]
    assert len(names) == 1 + sum(len(profile.starts) for profile in gpu.profiles)
    assert all(fit(gpu, (name,)) for name in names)
    assert not any(fit(gpu, ("gpu-0", name)) for name in names[1:])


@pytest.mark.parametrize(("gpu", "profile", "most"), [(A100_40, p.name, len(p.starts)) for p in A100_40.profiles])
def test_a_profile_fits_as_often_as_it_has_placements(gpu: GpuModel, profile: str, most: int) -> None:
    names = [d["name"] for d in devices(gpu) if d["attributes"].get("profile", {}).get("string") == profile]
    assert len(names) == most
    assert fit(gpu, tuple(names))


@pytest.mark.parametrize("gpu", [A100_40, H100_80])
def test_two_placements_fit_together_unless_they_share_a_memory_slice(gpu: GpuModel) -> None:
    placed = {d["name"]: d for d in devices(gpu)[1:]}
    for one, other in itertools.combinations(placed, 2):
        slices = [
            {name for name in placed[each]["consumesCounters"][0]["counters"] if name.startswith("memory-slice")}
            for each in (one, other)
        ]
        assert fit(gpu, (one, other)) == slices[0].isdisjoint(slices[1])
