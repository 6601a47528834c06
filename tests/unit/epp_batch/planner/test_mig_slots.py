"""MIG profiles by GPU model."""

from __future__ import annotations

import pytest

from epp_batch.errors import InputError
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
def test_the_model_of_a_product_label(product, model):
    assert mig_slots.gpu_model_from_product(product) == model


@pytest.mark.parametrize("name", ["1g.5gb", "1g.5gb+me", "1g.5gb.me"])
def test_a_slice_with_media_engines_takes_what_the_plain_one_takes(name):
    assert mig_slots.require_profile("A100-40", name).size == 1


def test_the_same_name_is_wider_on_a_smaller_gpu():
    assert mig_slots.require_profile("A100-40", "1g.10gb").size == 2
    assert mig_slots.require_profile("A100-80", "1g.10gb").size == 1


def test_an_unknown_slice_is_refused_with_those_there_are():
    with pytest.raises(InputError, match=r"A100-40 has no slice '3g.40gb'; it has 1g.5gb, 1g.10gb"):
        mig_slots.require_profile("A100-40", "3g.40gb")
    with pytest.raises(InputError, match="'T4' cannot be sliced; known are A100-40"):
        mig_slots.require_profile("T4", "1g.5gb")
