"""Manifests: builds the Kubernetes and Kueue objects of a run as plain dicts.

Flows in: units, runs and placements (`epp_batch.spec`), and queue presets. Flows out: Jobs with their
ResourceClaimTemplates (`jobs`), Kueue's ClusterQueues, LocalQueues, ResourceFlavors and manager configuration
(`queues`), volumes (`volumes`), accelerator requests (`accelerators`); `quantities` parses and formats resource
quantities.

Pure: no I/O, no clock, no state; equal input gives equal objects, which the spec hash of a Job relies on. Reading a
cluster's objects belongs to `kube`, judging them to `preflight`, creating and deleting Jobs to `controller`.
"""

from __future__ import annotations

from typing import Any

KubeObject = dict[str, Any]
"""An object of the Kubernetes API as decoded JSON."""
