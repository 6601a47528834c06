"""Credentials for an API server: from a kubeconfig, or from the service account of the pod that we run in."""

from __future__ import annotations

import ipaddress
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import yaml

from epp_batch.errors import ClusterError

if TYPE_CHECKING:
    from kubernetes_asyncio.client import Configuration

SERVICE_HOST_VARIABLE = "KUBERNETES_SERVICE_HOST"
"""Set by the kubelet in every container."""
_REMEDY = "check --kubeconfig and --context"


class Credentials(NamedTuple):
    """Server URL, TLS and authentication of one kubeconfig context. Tokens expire: read `auth_headers` per request."""

    server: str
    configuration: Configuration
    namespace: str

    async def auth_headers(self) -> dict[str, str]:
        """The Authorization header, if the credentials are a token or a password."""
        settings = await self.configuration.auth_settings()
        return {auth["key"]: auth["value"] for auth in settings.values()}

    def create_session(self) -> aiohttp.ClientSession:
        """An HTTP session with the cluster's CA, our client certificate and the configured proxy."""
        conf = self.configuration
        context = ssl.create_default_context(cafile=conf.ssl_ca_cert)
        if conf.cert_file:
            context.load_cert_chain(conf.cert_file, keyfile=conf.key_file)
        if not conf.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=64),
            # Go's ProxyFromEnvironment (kubectl, client-go) ignores HTTPS_PROXY for loopback addresses.
            trust_env=not conf.proxy and not _is_loopback(self.server),
            proxy=conf.proxy or None,
            read_bufsize=2**21,
            auto_decompress=True,
        )


async def load_credentials(kubeconfig: str | None = None, context: str | None = None) -> Credentials:
    """Credentials from `kubeconfig`, else $KUBECONFIG, else ~/.kube/config, else the pod's service account.

    Several files in $KUBECONFIG are merged as kubectl does. ClusterError names the file that is missing or invalid.
    """
    # 0.4 s, all of it generated models: no command but those that connect should wait for it.
    from kubernetes_asyncio.client import Configuration
    from kubernetes_asyncio.config import ConfigException, load_kube_config

    paths = kubeconfig or os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    present = [path for path in paths.split(os.pathsep) if path and Path(path).expanduser().exists()]
    # In some releases Configuration() copies a process-wide default; this bypasses that metaclass.
    configuration = type.__call__(Configuration)
    if not present:
        if kubeconfig is None and SERVICE_HOST_VARIABLE in os.environ:
            return _in_cluster_credentials(configuration)
        raise ClusterError(f"{paths}: no such kubeconfig", remedy=_REMEDY)
    try:
        loader = await load_kube_config(
            config_file=os.pathsep.join(present),
            context=context,
            client_configuration=configuration,
            persist_config=False,
        )
        chosen = (loader.current_context or {})["context"]
    except (ConfigException, yaml.YAMLError, OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise ClusterError(f"{paths}: {_describe_error(error, context)}", remedy=_REMEDY) from error
    return Credentials(str(configuration.host).rstrip("/"), configuration, chosen.get("namespace") or "default")


def _in_cluster_credentials(configuration: Configuration) -> Credentials:
    from kubernetes_asyncio.config import ConfigException, load_incluster_config

    try:
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        raise ClusterError(f"in-cluster credentials: {error}", remedy=_REMEDY) from error
    namespace = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    return Credentials(
        str(configuration.host), configuration, namespace.read_text().strip() if namespace.exists() else "default"
    )


def _describe_error(error: Exception, context: str | None) -> str:
    if context is not None and context in str(error):
        return f"no context {context!r}"
    return " ".join(str(error).split()) or f"invalid kubeconfig ({type(error).__name__})"


def _is_loopback(server: str) -> bool:
    host = urlsplit(server).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
