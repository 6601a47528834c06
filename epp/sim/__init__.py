"""A simulator of vLLM servers, for demos, tests and routing benchmarks without GPUs.

In: requests of OpenAI's API (`model_server`), or `SimRequest`s with virtual time (`engine`). Out: responses token by
token, and the metrics page of vLLM 0.32 (`metrics`). `engine` and `block_pool` follow vLLM V1's scheduler and block
pool; `hardware` is the model of how long a step takes; `fleet` runs several servers in one process; `load` and
`workload` send conversations to any OpenAI endpoint, `demo` compares two policies with them.

State: an engine owns its requests, its cache and its counters, and is changed by one driver only. What does not belong
here: anything about picking an endpoint.
"""
