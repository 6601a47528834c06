"""MIG profiles by GPU model, and GPU models by product label."""

from __future__ import annotations

import pytest

from epp_batch.planner import mig_slots


@pytest.mark.parametrize(
    ("product", "model"),
    [
        ("NVIDIA-A100-SXM4-40GB", "A100-40"),
        ("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", "A100-80"),
        ("NVIDIA-H100-80GB-HBM3", "H100-80"),
        ("NVIDIA-H100-NVL-94GB", "H100-94"),
        ("NVIDIA-GH200-96GB-HBM3", "H100-96"),
        ("NVIDIA-H200", "H200-141"),
        ("NVIDIA-A30", "A30"),
        ("A100-40", "A100-40"),
        ("Tesla-T4", "Tesla-T4"),
    ],
)
def test_gpu_model_from_product_label(product, model):
    assert mig_slots.gpu_model_from_product(product) == model


@pytest.mark.parametrize("name", ["1g.5gb", "1g.5gb+me", "1g.5gb.me"])
def test_a_profile_with_media_extensions_is_found_by_its_plain_name(name):
    assert mig_slots.find_profile("A100-40", name) is mig_slots.MIG_PROFILES["A100-40"]["1g.5gb"]


def test_the_same_profile_name_takes_more_slots_on_a_smaller_gpu():
    sizes = {gpu_model: mig_slots.find_profile(gpu_model, "1g.10gb").size for gpu_model in ("A100-40", "A100-80")}
    assert sizes == {"A100-40": 2, "A100-80": 1}


@pytest.mark.parametrize(("gpu_model", "name"), [("A100-40", "3g.40gb"), ("T4", "1g.5gb"), ("", "")])
def test_an_unknown_profile_or_gpu_model_has_no_profile(gpu_model, name):
    assert mig_slots.find_profile(gpu_model, name) is None
