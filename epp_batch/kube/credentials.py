"""Who we are to the API server: a kubeconfig file, or the service account of the pod we run in."""

from __future__ import annotations

import ipaddress
import os
import ssl
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
import yaml
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes_asyncio.config.incluster_config import SERVICE_HOST_ENV_NAME

from epp_batch.errors import ClusterError

_REMEDY = "give --kubeconfig and --context"


class Credentials(NamedTuple):
    """One way in. `headers` is asked before every request, since tokens are renewed."""

    server: str
    configuration: Configuration
    namespace: str

    async def auth_headers(self) -> dict[str, str]:
        """The Authorization header, if the credentials are a token or a password."""
        settings = await self.configuration.auth_settings()
        return {auth["key"]: auth["value"] for auth in settings.values()}

    def create_session(self) -> aiohttp.ClientSession:
        """Connections with the cluster's CA and our client certificate, over the configured proxy."""
        conf = self.configuration
        context = ssl.create_default_context(cafile=conf.ssl_ca_cert)
        if conf.cert_file:
            context.load_cert_chain(conf.cert_file, keyfile=conf.key_file)
        if not conf.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=64),
            trust_env=not conf.proxy and not _is_loopback(self.server),
            proxy=conf.proxy or None,
            read_bufsize=2**21,
            auto_decompress=True,
        )


async def load_credentials(kubeconfig: str | None = None, context: str | None = None) -> Credentials:
    """Credentials from `kubeconfig`, else $KUBECONFIG, else ~/.kube/config, else the pod's service account.

    ClusterError tells which file is missing or wrong.
    """
    paths = kubeconfig or os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    present = [path for path in paths.split(os.pathsep) if path and Path(path).expanduser().exists()]
    configuration = type.__call__(Configuration)  # not Configuration(): that would copy a process-wide default
    if not present:
        if kubeconfig is None and SERVICE_HOST_ENV_NAME in os.environ:
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
    return " ".join(str(error).split()) or f"not a usable kubeconfig ({type(error).__name__})"


def _is_loopback(server: str) -> bool:
    """Proxies of the environment are never asked for this machine, as in Go's clients."""
    host = urlsplit(server).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
