"""Time to parse requests and to read usage, beside the targets.

python -m bench.micro.parse
"""

from __future__ import annotations

import json
from functools import partial
from random import Random

from bench.micro.timing import print_time
from epp.allocator import retain_freed_memory
from epp.api import Column, Endpoints, Parser, RequestAttribute
from epp.parsers.openai import OpenAIParser
from epp.parsers.passthrough import PassthroughParser
from epp.parsers.rewrite import replace_model
from epp.parsers.usage import UsageScanner
from epp.requestcontrol.request_parser import RequestParser
from epp.testing import builders
from scorers.producers.approx_prefix_cache import ApproxPrefixCacheProducer
from scorers.producers.inflight_load import InflightLoadProducer
from scorers.producers.token import TokenProducer

CHAT = "/v1/chat/completions"
# Source code, with a line end every 40 bytes and some quotes, which JSON escapes.
LINE = 'def transform(name, value):\n    return {"name": name, "value": value}  # as agreed\n'
CHUNK = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,'
    b'"delta":{"content":" hello"},"logprobs":null,"finish_reason":null}]}\n\n'
)
USAGE = b'"finish_reason":null}],"usage":{"prompt_tokens":7,"total_tokens":17,"completion_tokens":10}}'


def build_body(size: int, path: str) -> bytes:
    """A request body of about `size` bytes."""
    text = (LINE * (size // len(LINE) + 1))[:size]
    prompt = {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": text}]}
    return json.dumps({"model": "m", "stream": True, **(prompt if path == CHAT else {"prompt": text})}).encode()


def measure_producers(size: int, pool: Endpoints) -> None:
    """Token estimate, prefix lookup and load of one request over this pool, and the prefix index's `pre_request`."""
    token, prefix, load = TokenProducer(), ApproxPrefixCacheProducer(), InflightLoadProducer()
    text = OpenAIParser().parse(CHAT, {}, build_body(size, CHAT)).text

    def produce() -> None:
        request = builders.build_request(text=text, model="m")
        endpoints = pool
        for producer in (token, prefix, load):
            found = producer.produce(request, endpoints)
            request.attributes.update({key: value for key, value in found.items() if isinstance(key, RequestAttribute)})
            endpoints = endpoints.with_columns({key: value for key, value in found.items() if isinstance(key, Column)})
        prefix.pre_request(request, {"default": 3})

    name = f"producers and pre_request, {size // 1000} KB, {len(pool)} endpoints"
    print_time(name, produce, 20, 2000 if size > 9999 else 40)


def main() -> None:
    """Prints the table."""
    retain_freed_memory()
    parser: Parser = OpenAIParser()
    for size, calls, target in ((4_000, 500, 6.0), (400_000, 10, 350.0)):
        for path in (CHAT, "/v1/completions"):
            raw = build_body(size, path)
            print_time(f"{path}, {size // 1000} KB", partial(parser.parse, path, {}, raw), calls, target)
        print_time(f"another model, {size // 1000} KB", partial(replace_model, raw, "other"), calls, target)
    request_parser = RequestParser([("openai-parser", parser), ("passthrough-parser", PassthroughParser())], Random(1))
    print_time("choice of the parser", lambda: request_parser.find_parser(CHAT), 1000, 1)
    scanner = UsageScanner()
    print_time("chunk without usage", lambda: scanner.feed(CHUNK), 1000, 1)
    print_time("chunk without usage, cut anywhere", lambda: scanner.feed(CHUNK[:-9]), 1000, 1)
    with_usage = CHUNK.replace(b'"finish_reason":null}]}', USAGE)
    print_time("chunk with usage", lambda: scanner.feed(with_usage), 1000, 5)
    for size in (4_000, 400_000):
        for count in (10, 1000):
            measure_producers(size, builders.build_endpoints(block_size=[16.0] * count, block_count=[40_000.0] * count))


if __name__ == "__main__":
    main()
