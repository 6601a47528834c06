"""What each strategy asks for."""

from __future__ import annotations

import pytest

from epp_batch.errors import InputError
from epp_batch.manifests.accelerators import MEMORY, SLOTS, parse, profile_slots, transformations
from epp_batch.manifests.queues import SLICES
from epp_batch.planner.mig_slots import PROFILES


@pytest.mark.parametrize(
    ("text", "resources", "slots", "quota"),
    [
        ("gpu", {"nvidia.com/gpu": "1"}, 8, "nvidia.com/gpu"),
        ("gpu:2", {"nvidia.com/gpu": "2"}, 16, "nvidia.com/gpu"),
        ("mig:1g.5gb", {"nvidia.com/mig-1g.5gb": "1"}, 1, "nvidia.com/mig-1g.5gb"),
        ("mig:1g.10gb+me", {"nvidia.com/mig-1g.10gb.me": "1"}, 1, "nvidia.com/mig-1g.10gb.me"),
        ("dra:3g.20gb", {}, 4, MEMORY),
        ("dra-gpu", {}, 8, MEMORY),
        ("cpu", {}, 0, "cpu"),
    ],
)
def test_what_is_asked_for(text, resources, slots, quota):
    accelerator = parse(text)
    assert accelerator.text == text
    assert accelerator.resources() == resources
    assert accelerator.slots == slots
    assert accelerator.quota_resource == quota
    assert bool(accelerator.claims()) == text.startswith("dra")


def test_a_claim_names_its_template_and_the_template_its_profile():
    accelerator = parse("dra:3g.20gb")
    (template,) = accelerator.templates()
    assert accelerator.claims() == [{"name": "gpu", "resourceClaimTemplateName": template["metadata"]["name"]}]
    (request,) = template["spec"]["spec"]["devices"]["requests"]
    assert request["exactly"]["deviceClassName"] == "mig.nvidia.com"
    assert "profile == '3g.20gb'" in request["exactly"]["selectors"][0]["cel"]["expression"]
    assert accelerator.charges() == [{MEMORY: 20 * 2**30}]
    (whole,) = parse("dra-gpu").templates()
    assert "selectors" not in whole["spec"]["spec"]["devices"]["requests"][0]["exactly"]


def test_slices_of_every_gpu_as_the_planner_has_them():
    assert set(SLICES) == set(PROFILES)
    for gpu, (_, profiles) in SLICES.items():
        sizes = {name: profile.size for name, profile in PROFILES[gpu].items()}
        if gpu == "A100-40":
            assert sizes.pop("1g.10gb") == 2  # by its name it would be the single slot of an 80 GB GPU
        assert {profile: profile_slots(profile) for profile in profiles} == sizes


def test_transformations_charge_slots():
    assert transformations(["3g.20gb"]) == [
        {"input": "nvidia.com/mig-3g.20gb", "strategy": "Replace", "outputs": {SLOTS: "4"}}
    ]


@pytest.mark.parametrize(
    "text", ["", "gpu:0", "gpu:x", "mig", "mig:", "mig:large", "mig:5g.5gb", "cpu:2", "dra-gpu:1", "tpu"]
)
def test_what_is_none(text):
    with pytest.raises(InputError, match=r"is none of gpu, gpu:N|is no MIG profile"):
        parse(text)
