"""Jobs of units. That the API server and Kueue accept them: tests/kube."""

from __future__ import annotations

import msgspec
import pytest

from epp_batch.errors import FailureKind, InputError
from epp_batch.manifests.jobs import build_claim_templates, build_job, compute_creation_rate, sanitize_label_value
from epp_batch.spec import Placement, Run, Volume, WorkOrder
from tests.unit.epp_batch.conftest import run, unit


def container(job):
    return job["spec"]["template"]["spec"]["containers"][0]


def environment(job):
    return {variable["name"]: variable.get("value") for variable in container(job)["env"]}


def test_job_is_suspended_with_labels_and_annotations():
    job = build_job(
        unit(), run(max_exec_seconds=7200, placements={"large": Placement(priority_class="high", queue="big")})
    )
    assert job["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "epp-batch",
        "epp-batch/run": "r",
        "epp-batch/unit": "r-1",
        "epp-batch/model": "large",
        "kueue.x-k8s.io/queue-name": "big",
        "kueue.x-k8s.io/priority-class": "high",
        "kueue.x-k8s.io/max-exec-time-seconds": "7200",
    }
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["annotations"]["epp-batch/audio-seconds"] == "60.000"


def test_work_order_has_paths_inside_the_pod():
    job = build_job(unit(), run(placements={"large": Placement(model_path="/models/large")}))
    order = msgspec.json.decode(environment(job)["EPP_BATCH_ORDER"], type=WorkOrder)
    assert (order.run, order.unit, order.output, order.model_path) == ("r", "r-1", "/data/out", "/models/large")
    (task,) = order.tasks
    assert task.recording.source == "/data/call.mp3"
    assert task.key(order.options) == unit().tasks[0].key(run().options)


def test_url_is_not_translated():
    job = build_job(unit(source="https://h/call.mp3"), run())
    assert "https://h/call.mp3" in environment(job)["EPP_BATCH_ORDER"]


@pytest.mark.parametrize(
    ("job_unit", "job_run", "message"),
    [
        (unit(source="/elsewhere/call.mp3"), run(), "/elsewhere/call.mp3: not in a volume"),
        (unit(), run(output="/elsewhere/out"), "/elsewhere/out: not in a volume"),
        (
            unit(),
            run(volumes=(Volume(source="pvc/a", mount="/data", local="/home/me/audio", read_only=True),)),
            "/home/me/audio/out: in a read-only volume",
        ),
        (unit(), Run(name="r", output="/o", options=run().options, units=()), "run r has no cluster settings"),
    ],
)
def test_path_outside_the_volumes_is_rejected(job_unit, job_run, message):
    with pytest.raises(InputError, match=message):
        build_job(job_unit, job_run)


def test_only_given_resources_are_requested():
    assert container(build_job(unit(), run()))["resources"] == {
        "requests": {"nvidia.com/gpu": "1"},
        "limits": {"nvidia.com/gpu": "1"},
    }
    placement = Placement(accelerator="mig:1g.5gb", cpu="2", memory="8Gi")
    assert container(build_job(unit(), run(placements={"*": placement})))["resources"] == {
        "requests": {"nvidia.com/mig-1g.5gb": "1", "cpu": "2", "memory": "8Gi"},
        "limits": {"nvidia.com/mig-1g.5gb": "1", "memory": "8Gi"},
    }


def test_dra_claim_in_pod_container_and_template():
    claimed = run(placements={"*": Placement(accelerator="dra:3g.20gb")})
    job = build_job(unit(), claimed)
    (template,) = build_claim_templates(claimed)
    assert container(job)["resources"] == {"claims": [{"name": "gpu"}]}
    (claim,) = job["spec"]["template"]["spec"]["resourceClaims"]
    assert claim["resourceClaimTemplateName"] == template["metadata"]["name"]
    assert template["metadata"]["namespace"] == "whisper"


def test_run_as_sets_user_and_group():
    def user(run_as):
        context = build_job(unit(), run(run_as=run_as))["spec"]["template"]["spec"]["securityContext"]
        return {name: value for name, value in context.items() if name != "seccompProfile"}

    assert user(None) == {}
    assert user("1000") == {"runAsUser": 1000, "runAsNonRoot": True}
    assert user("0:7") == {"runAsUser": 0, "runAsGroup": 7, "fsGroup": 7}


def test_pod_failure_policy():
    fail, disrupted, stopped = build_job(unit(), run())["spec"]["podFailurePolicy"]["rules"]
    assert fail["action"] == "FailJob"
    assert set(fail["onExitCodes"]["values"]) == {kind.exit_code for kind in FailureKind if kind.permanent}
    assert 0 not in fail["onExitCodes"]["values"]
    assert disrupted["action"] == stopped["action"] == "Ignore"
    assert stopped["onExitCodes"]["values"] == [FailureKind.STOPPED.exit_code]


def test_spec_hash_covers_spec_and_labels():
    def spec_hash(job_unit=None, job_run=None):
        return build_job(job_unit or unit(), job_run or run())["metadata"]["annotations"]["epp-batch/spec-hash"]

    assert spec_hash() == spec_hash(unit(seconds=60.0), run())
    others = [
        spec_hash(job_run=run(image="worker:2")),
        spec_hash(job_run=run(queue="other")),
        spec_hash(job_run=run(retries=1)),
        spec_hash(job_run=run(placements={"*": Placement(priority_class="high")})),
        spec_hash(unit(source="/home/me/audio/other.mp3")),
    ]
    assert len({spec_hash(), *others}) == len(others) + 1


@pytest.mark.parametrize(("count", "rate"), [(0, 1), (1, 1), (60, 1), (61, 2), (10_000, 167)])
def test_creation_rate(count, rate):
    assert compute_creation_rate(count) == rate


def test_sanitize_label_value():
    assert sanitize_label_value("Systran/faster-whisper-large-v3") == "Systran-faster-whisper-large-v3"
    assert len(sanitize_label_value("x" * 100)) == 63
    assert sanitize_label_value("/models/large/") == "models-large"
