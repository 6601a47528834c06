"""The --volume flag, pod volumes, and translation of local paths."""

from __future__ import annotations

import pytest

from epp_batch.errors import InputError
from epp_batch.manifests.volumes import build_pod_volumes, check_volumes, parse_volume, translate_path
from epp_batch.spec import Volume


@pytest.mark.parametrize(
    ("text", "volume"),
    [
        ("pvc/audio=/mnt/a", Volume(source="pvc/audio", mount="/mnt/a", local="/mnt/a")),
        ("pvc/audio=/mnt/a/:/data/", Volume(source="pvc/audio", mount="/data", local="/mnt/a")),
        ("pvc/audio=/mnt/a:/data:ro", Volume(source="pvc/audio", mount="/data", local="/mnt/a", read_only=True)),
        ("pvc/audio=/mnt/a:ro", Volume(source="pvc/audio", mount="/mnt/a", local="/mnt/a", read_only=True)),
        ("pvc/models=:/models", Volume(source="pvc/models", mount="/models")),
        ("host//mnt/a", Volume(source="host//mnt/a", mount="/mnt/a", local="/mnt/a")),
        ("host//srv=/mnt/a:/data", Volume(source="host//srv", mount="/data", local="/mnt/a")),
        (
            "image/reg:5000/whisper:large=:/models",
            Volume(source="image/reg:5000/whisper:large", mount="/models", read_only=True),
        ),
    ],
)
def test_parse_volume(text, volume):
    assert parse_volume(text) == volume


@pytest.mark.parametrize("text", ["", "audio=/a", "pvc/=/a", "pvc/a", "pvc/a=", "image/x", "pvc/a=/b:c", "pvc/a=/b:/"])
def test_invalid_volume_is_rejected(text):
    with pytest.raises(InputError, match="--volume"):
        parse_volume(text)


def test_innermost_volume_translates():
    volumes = [
        parse_volume("pvc/all=/mnt:/all"),
        parse_volume("pvc/audio=/mnt/audio:/data"),
        parse_volume("pvc/models=:/models"),
    ]
    assert translate_path("/mnt/audio/x/call.mp3", volumes) == "/data/x/call.mp3"
    assert translate_path("/mnt/audio", volumes) == "/data"
    assert translate_path("/mnt/audio2/call.mp3", volumes) == "/all/audio2/call.mp3"
    assert translate_path("/models/x", volumes) is None


def test_symbolic_link_into_a_volume_is_resolved(tmp_path):
    (tmp_path / "audio").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "audio")
    volumes = [parse_volume(f"pvc/a={(tmp_path / 'audio').resolve()}:/data")]
    assert translate_path(str(tmp_path / "link" / "call.mp3"), volumes) == "/data/call.mp3"


def test_volumes_with_one_source_share_a_pod_volume():
    volumes, mounts = build_pod_volumes(
        [parse_volume("pvc/a=/x:/in:ro"), parse_volume("pvc/a=/y:/out"), parse_volume("image/m:1=:/models")]
    )
    assert [volume["name"] for volume in volumes] == ["shared-0", "shared-1"]
    assert volumes[0]["persistentVolumeClaim"] == {"claimName": "a"}
    assert volumes[1]["image"] == {"reference": "m:1", "pullPolicy": "IfNotPresent"}
    assert [(mount["mountPath"], mount.get("readOnly", False)) for mount in mounts] == [
        ("/in", True),
        ("/out", False),
        ("/models", True),
    ]


def test_duplicate_mount_path_is_rejected():
    with pytest.raises(InputError, match="both at /data"):
        check_volumes([parse_volume("pvc/a=/x:/data"), parse_volume("pvc/b=/y:/data")])
