"""Manifests of Kueue, Gateway API and its inference extension, read from the modules that the build downloaded."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.kube.cluster.client import Object

KUEUE = "sigs.k8s.io/kueue"
GATEWAY_API = "sigs.k8s.io/gateway-api"
INFERENCE_EXTENSION = "sigs.k8s.io/gateway-api-inference-extension"
KUEUE_NAMESPACE = "kueue-system"
WEBHOOK_SERVICE = f"kueue-webhook-service.{KUEUE_NAMESPACE}.svc"
VISIBILITY_SERVICE = f"visibility-server.{KUEUE_NAMESPACE}.svc"
# Kueue integrates a dozen frameworks whose types are not here; a webhook for an absent type only costs.
_WEBHOOKS = frozenset({"job", "workload", "clusterqueue", "cohort", "resourceflavor"})


class Manifests:
    """YAML documents below the module directories listed in CACHE/modules."""

    def __init__(self, cache: Path) -> None:
        lines = (cache / "modules").read_text().splitlines()
        self._folders = {module: Path(folder) for module, folder in (line.split(" ", 1) for line in lines)}

    def read_documents(self, module: str, pattern: str) -> Iterator[Object]:
        """Documents of the files that match, in order of their names; Kustomizations left out."""
        for path in sorted(self._folders[module].glob(pattern)):
            for document in yaml.load_all(path.read_text(), yaml.CSafeLoader):  # 10 times faster than safe_load_all
                if document and document.get("kind") != "Kustomization":
                    yield document

    def gateway_crds(self) -> list[Object]:
        """Gateway API's standard channel and the inference extension's InferencePool."""
        found = [*self.read_documents(GATEWAY_API, "config/crd/standard/*.yaml")]
        found += self.read_documents(INFERENCE_EXTENSION, "config/crd/bases/*.yaml")
        return [document for document in found if document["kind"] == "CustomResourceDefinition"]

    def kueue_crds(self, webhook: str, authority: bytes) -> list[Object]:
        """Kueue's CRDs; versions are converted by the server at the URL `webhook`."""
        crds = {
            crd["metadata"]["name"]: crd for crd in self.read_documents(KUEUE, "config/components/crd/bases/*.yaml")
        }
        for patch in self.read_documents(KUEUE, "config/components/crd/patches/webhook_in_*.yaml"):
            name, conversion = patch["metadata"]["name"], patch["spec"]["conversion"]
            if name == "resourceflavors.kueue.x-k8s.io":  # its patch stands there, but Kueue does not use it
                continue
            conversion["webhook"]["clientConfig"] = _webhook_client_config(webhook + "/convert", authority)
            crds[name]["spec"]["conversion"] = conversion
        return list(crds.values())

    def kueue_webhooks(self, webhook: str, authority: bytes) -> list[Object]:
        """Kueue's admission webhooks for the types that exist here, served at the URL `webhook`."""
        configurations = list(self.read_documents(KUEUE, "config/components/webhook/manifests.yaml"))
        for configuration in configurations:
            configuration["metadata"]["name"] = "kueue-" + configuration["metadata"]["name"]
            hooks = [h for h in configuration["webhooks"] if h["name"][1:].removesuffix(".kb.io") in _WEBHOOKS]
            for hook in hooks:
                hook["clientConfig"] = _webhook_client_config(
                    webhook + hook["clientConfig"]["service"]["path"], authority
                )
            configuration["webhooks"] = hooks
        return configurations

    def kueue_visibility(self, port: int) -> list[Object]:
        """The aggregated API of pending workloads, served on 127.0.0.1:`port`.

        An APIService names a Service; one of type ExternalName is followed without any cluster network.
        """
        documents = list(self.read_documents(KUEUE, "config/components/visibility/apiservice_*.yaml"))
        for document in documents:
            document["spec"]["service"]["port"] = port
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "visibility-server", "namespace": KUEUE_NAMESPACE},
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
        }
        return [service, *documents]

    def kueue_secret(self, pki: Path) -> Object:
        """The Secret with the certificates that Kueue would otherwise issue."""
        files = ("ca.crt", "ca.key", "tls.crt", "tls.key")
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "kueue-webhook-server-cert", "namespace": KUEUE_NAMESPACE},
            "data": {name: _encode_base64((pki / name).read_bytes()) for name in files},
        }


def _webhook_client_config(url: str, authority: bytes) -> Object:
    return {"url": url, "caBundle": _encode_base64(authority)}


def _encode_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
