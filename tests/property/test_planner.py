"""Invariants of simulations with arbitrary queues and jobs: every job ends, slots are exclusive, quota is kept."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from epp_batch.planner import ControlPlaneDelays, build_gpu_nodes, simulate_jobs
from epp_batch.planner.cluster_model import ClusterModel, ClusterQueuePreemption, WaitForPodsReady
from epp_batch.planner.simulation import Simulation
from tests.unit.epp_batch.planner.builders import GPU, gpu_cluster_queue, kueue_objects, planned_job

NAMES = ("a", "b", "c")
PREEMPTIONS = st.builds(
    ClusterQueuePreemption,
    within_cluster_queue=st.sampled_from(["Never", "LowerPriority", "LowerOrNewerEqualPriority"]),
    reclaim_within_cohort=st.sampled_from(["Never", "LowerPriority", "Any"]),
    borrow_within_cohort=st.sampled_from(["Never", "LowerPriority"]),
    max_priority_threshold=st.sampled_from([None, 1]),
)
QUEUES = st.tuples(
    *(
        st.builds(
            gpu_cluster_queue,
            st.just(name),
            st.integers(0, 4),
            cohort_name=st.just("cohort"),
            is_strict_fifo=st.booleans(),
            preemption=PREEMPTIONS,
            borrowing_limit=st.sampled_from([None, 0, 2]),
            lending_limit=st.sampled_from([None, 0, 1]),
        )
        for name in NAMES
    )
)
JOBS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(1, 3), st.integers(0, 2), st.integers(1, 50), st.integers(0, 40)),
    max_size=14,
)
DELAYS = st.builds(
    ControlPlaneDelays,
    requeue_batch_period=st.sampled_from([0.0, 1.0]),
    pod_startup=st.sampled_from([0.0, 2.0]),
    pod_termination=st.sampled_from([0.0, 3.0]),
)


def build_jobs(drawn):
    """Jobs in order of arrival, and their arrivals."""
    drawn = sorted(drawn, key=lambda job: job[4])
    jobs = [planned_job(str(i), q, gpus=g, priority=p, work=w) for i, (q, g, p, w, _) in enumerate(drawn)]
    return jobs, [float(job[4]) for job in drawn]


@settings(deadline=None)
@given(queues=QUEUES, drawn=JOBS, delays=DELAYS, resumes=st.booleans())
def test_every_job_ends_once_and_quota_is_never_exceeded(queues, drawn, delays, resumes):
    jobs, arrivals = build_jobs(drawn)
    total = sum(queue.resource_groups[0].flavors[0].quotas[GPU].nominal for queue in queues)
    cluster_model = ClusterModel(
        nodes=build_gpu_nodes(gpus=12), kueue=kueue_objects(*queues), delays=delays, resume_after_preemption=resumes
    )
    simulation = Simulation(cluster_model, jobs, arrivals)
    events = simulation.run()
    assert [event.at for event in events] == sorted(event.at for event in events)
    ends = [event.unit for event in events if event.kind in {"finished", "failed"}]
    assert sorted(ends) == sorted(job.unit for job in jobs)
    held, gpus = {}, {job.unit: job.accelerator.gpu_count for job in jobs}
    for event in events:
        if event.kind == "admitted":
            held[event.unit] = gpus[event.unit]
        elif event.kind in {"requeued", "finished"}:
            held.pop(event.unit, None)
        assert sum(held.values()) <= total
    if "failed" not in {event.kind for event in events}:
        assert not any(amount for node in simulation.kueue.resource_nodes.values() for amount in node.usage.values())


SLICES = st.lists(
    st.tuples(st.sampled_from(["1g.5gb", "2g.10gb", "3g.20gb", "7g.40gb"]), st.integers(1, 30)), max_size=20
)


@settings(deadline=None)
@given(drawn=SLICES, sharing=st.sampled_from(["das", "dra"]))
def test_slots_are_exclusive(drawn, sharing):
    kind = "mig" if sharing == "das" else "dra"
    jobs = [planned_job(str(i), accelerator=f"{kind}:{name}", work=work) for i, (name, work) in enumerate(drawn)]
    events = simulate_jobs(
        ClusterModel(nodes=build_gpu_nodes(gpus=2, sharing=sharing)), jobs, [float(i % 5) for i in range(len(jobs))]
    )
    holders = {}
    for event in events:
        if event.kind == "finished":
            holders = {slot: unit for slot, unit in holders.items() if unit != event.unit}
        elif event.kind == "running":
            gpu, slots = event.place.rsplit("/", 1)
            first, last = map(int, slots.split("-"))
            slots_of_unit = {(gpu, slot) for slot in range(first, last + 1)}
            assert not slots_of_unit & holders.keys()
            holders |= dict.fromkeys(slots_of_unit, event.unit)
    assert sum(event.kind == "finished" for event in events) == len(jobs)


@settings(deadline=None)
@given(drawn=JOBS)
def test_jobs_that_fit_no_node_are_deactivated(drawn):
    jobs, arrivals = build_jobs(drawn)
    ready = WaitForPodsReady(timeout=5, backoff_base_seconds=2, backoff_limit_count=2)
    cluster_model = ClusterModel(
        nodes=build_gpu_nodes(gpus=2),
        kueue=kueue_objects(*(gpu_cluster_queue(name, 9) for name in NAMES), wait_for_pods_ready=ready),
    )
    events = simulate_jobs(cluster_model, jobs, arrivals)
    ends = {event.unit: event for event in events if event.kind in {"finished", "failed"}}
    for job in jobs:
        if job.accelerator.gpu_count > 2:
            assert ends[job.unit].detail == "admitted, but no node has the resources its pod requests"
    assert len(ends) == len(jobs)
