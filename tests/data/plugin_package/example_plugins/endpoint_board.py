"""A discovery with list and watch events, a push data source with its extractor, and a scorer of what it extracts.

The "board" is a TCP server that writes a JSON line for each event: {"list": [endpoint, …]}, {"upsert": endpoint} or
{"delete": name}. Each model server writes its state as JSON lines to connections on the port in its label `push-port`.
"""

import asyncio
import json
import math
from typing import Any

from epp.api import (
    RUNNING_REQUESTS,
    WAITING_REQUESTS,
    Column,
    DataSource,
    DataSourceError,
    Discovery,
    DiscoveryNotifier,
    Endpoint,
    EndpointExtractor,
    EndpointReceiver,
    Endpoints,
    EndpointUpdate,
    Extractor,
    Request,
    Scorer,
    Scores,
    prefer_low,
)

TEMPERATURE = Column("temperature", "degrees Celsius", "temperature of the accelerator")


class BoardDiscovery(Discovery, type="board-discovery"):
    """Watch the endpoints on the board at `host` and `port`."""

    host: str = "127.0.0.1"
    port: int = 7000

    async def run(self, notifier: DiscoveryNotifier) -> None:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            async for line in reader:
                event = json.loads(line)
                if "list" in event:
                    notifier.replace_all([Endpoint(**fields) for fields in event["list"]])
                elif "upsert" in event:
                    notifier.upsert(Endpoint(**event["upsert"]))
                else:
                    notifier.delete(event["delete"])
        finally:
            writer.close()
        raise ConnectionError("the board has closed the connection")


class StatePushSource(DataSource, type="state-push-source"):
    """Listen to the state that each model server pushes."""

    payload_type = bytes

    async def run_endpoint(self, endpoint: Endpoint, receiver: EndpointReceiver) -> None:
        reader, writer = await asyncio.open_connection(endpoint.address, int(endpoint.labels["push-port"]))
        try:
            async for line in reader:
                receiver.deliver(line)
        finally:
            writer.close()
        raise ConnectionError("the model server has closed the connection")


class StateExtractor(Extractor, type="state-extractor"):
    """Read queue, running requests and temperature from pushed state."""

    payload_type = bytes
    columns = (WAITING_REQUESTS, RUNNING_REQUESTS, TEMPERATURE)

    def open(self, endpoint: Endpoint, slot: int) -> EndpointExtractor:
        return StateReader()


class StateReader(EndpointExtractor):
    def extract(self, payload: Any) -> EndpointUpdate:
        try:
            state = json.loads(payload)
            values = {column: float(state.get(column.name, math.nan)) for column in StateExtractor.columns}
        except (ValueError, TypeError, AttributeError) as error:
            raise DataSourceError(f"not a state: {error}") from error
        return EndpointUpdate(values)


class CoolestScorer(Scorer, type="coolest-scorer"):
    """Prefer endpoints with a cool accelerator."""

    consumes = (TEMPERATURE,)

    def score(self, request: Request, endpoints: Endpoints) -> Scores:
        return prefer_low(endpoints[TEMPERATURE])
