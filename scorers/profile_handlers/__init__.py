"""Profile handlers: each decides which scheduling profiles run, and which one's choice is the destination.

Flows in: the request and which profiles have found an endpoint so far. Flows out: names of profiles to run next, and
at the end the primary one. Running a profile is `epp.scheduling`'s; headers for other stages are
`RequestHeaderProvider`'s.
"""
