"""State of the pool (llm-d's `pkg/epp/datastore`): endpoints, their scraped columns, the requests in flight.

In: endpoints and scrapes from `epp.datalayer`, reservations from `epp.requestcontrol`. Out: `Snapshot`s of columns over
slots, the ledger's live counts, and lookups of slots by address. An endpoint has a slot, a small stable integer, as
long as it is in the pool; every array is indexed by it. Owns all state that outlives a request. Every object has a
single writer, the thread of the event loop; nothing here does I/O, waits, or knows where an endpoint or a number came
from.
"""
