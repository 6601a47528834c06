"""The life of one request, from the bytes of its body to its end (llm-d's `pkg/epp/requestcontrol`).

In: headers and body from `epp.extproc`. Out: a routing decision, and afterwards the bookkeeping of the request in
flight. `Director` runs producers and profiles and reserves; `completion` learns when requests end. Owns the requests
in flight; endpoints and the ledger belong to `epp.datastore`, and the scheduling profiles to `epp.scheduling`.
"""
