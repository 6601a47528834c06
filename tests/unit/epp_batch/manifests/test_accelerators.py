"""Accelerator requests: resources, claims, quota usage, slots."""

from __future__ import annotations

import pytest

from epp_batch.errors import InputError
from epp_batch.manifests.accelerators import (
    GPU_MEMORY_RESOURCE,
    MIG_SLOTS_RESOURCE,
    build_transformations,
    parse_accelerator,
    profile_slots,
)
from epp_batch.manifests.queues import GPU_MODELS
from epp_batch.planner.mig_slots import MIG_PROFILES


@pytest.mark.parametrize(
    ("text", "resources", "slots", "charged"),
    [
        ("gpu", {"nvidia.com/gpu": "1"}, 8, "nvidia.com/gpu"),
        ("gpu:2", {"nvidia.com/gpu": "2"}, 16, "nvidia.com/gpu"),
        ("mig:1g.5gb", {"nvidia.com/mig-1g.5gb": "1"}, 1, "nvidia.com/mig-1g.5gb"),
        ("mig:1g.10gb+me", {"nvidia.com/mig-1g.10gb.me": "1"}, 1, "nvidia.com/mig-1g.10gb.me"),
        ("dra:3g.20gb", {}, 4, GPU_MEMORY_RESOURCE),
        ("dra-gpu", {}, 8, GPU_MEMORY_RESOURCE),
        ("cpu", {}, 0, None),
    ],
)
def test_requests_of_every_kind(text, resources, slots, charged):
    accelerator = parse_accelerator(text)
    assert accelerator.flag_value == text
    assert accelerator.container_resources() == resources
    assert accelerator.slots == slots
    assert [next(iter(usage)) for usage in accelerator.possible_usage()[:1]] == ([charged] if charged else [])
    assert bool(accelerator.resource_claims()) == text.startswith("dra")


def test_claim_refers_to_a_template_with_its_profile():
    accelerator = parse_accelerator("dra:3g.20gb")
    (template,) = accelerator.claim_templates()
    assert accelerator.resource_claims() == [{"name": "gpu", "resourceClaimTemplateName": template["metadata"]["name"]}]
    (request,) = template["spec"]["spec"]["devices"]["requests"]
    assert request["exactly"]["deviceClassName"] == "mig.nvidia.com"
    assert "profile == '3g.20gb'" in request["exactly"]["selectors"][0]["cel"]["expression"]
    assert accelerator.possible_usage() == [{GPU_MEMORY_RESOURCE: 20 * 2**30}]
    (whole,) = parse_accelerator("dra-gpu").claim_templates()
    assert "selectors" not in whole["spec"]["spec"]["devices"]["requests"][0]["exactly"]


def test_profiles_agree_with_the_planner():
    assert set(GPU_MODELS) == set(MIG_PROFILES)
    for gpu, (_, profiles) in GPU_MODELS.items():
        sizes = {name: profile.size for name, profile in MIG_PROFILES[gpu].items()}
        if gpu == "A100-40":
            assert sizes.pop("1g.10gb") == 2  # omitted: its name is that of the single-slot profile of an 80 GB GPU
        assert {profile: profile_slots(profile) for profile in profiles} == sizes


def test_transformations_charge_slots():
    assert build_transformations(["3g.20gb"]) == [
        {"input": "nvidia.com/mig-3g.20gb", "strategy": "Replace", "outputs": {MIG_SLOTS_RESOURCE: "4"}}
    ]


@pytest.mark.parametrize(
    "text", ["", "gpu:0", "gpu:x", "mig", "mig:", "mig:large", "mig:5g.5gb", "cpu:2", "dra-gpu:1", "tpu"]
)
def test_invalid_accelerator_is_rejected(text):
    with pytest.raises(InputError, match=r"expected gpu, gpu:N|invalid MIG profile"):
        parse_accelerator(text)
