"""The gateway of `epp up`: Envoy, an endpoint picker and optionally simulated model servers, as child processes.

In: `GatewaySettings`, from the flags of `epp up`. Out: a running gateway (`gateway.Gateway`), Envoy's bootstrap
configuration as data (`envoy_bootstrap`, `clusters`), and lines or a live table on the terminal (`dashboard`, fed by
`dashboard_data`). `Gateway` owns the reserved ports, the picker's listening socket and the folder of logs; `supervisor`
owns the child processes and restarts them; `programs` knows their command lines. The picker runs in a process of its
own: routing, ext_proc and the state of endpoints do not belong here.
"""
