"""A column and a request attribute of this package's own, from a producer and an asynchronous producer."""

import asyncio

import numpy as np

from epp.api import AsyncProducer, Column, Endpoints, ProducedData, Producer, Request, RequestAttribute

TENANT = RequestAttribute("tenant", "", "the tenant that a directory service knows the model by")
DISTANCE = Column("distance", "hops", "hops from this picker to the endpoint")


class DistanceProducer(Producer, type="distance-producer"):
    """Distances by the label `hops`."""

    produces = (DISTANCE,)

    def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        return {DISTANCE: np.array([float(hops or "nan") for hops in endpoints.label_values("hops")], np.float32)}


class TenantProducer(AsyncProducer, type="tenant-producer"):
    """Asks a directory service for the tenant of a model."""

    produces = (TENANT,)

    async def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        await asyncio.sleep(0)
        return {TENANT: f"tenant-of-{request.model}"}
