"""What routing needs of request and response bodies (llm-d's `pkg/epp/framework/plugins/requesthandling/parsers`).

In: path, headers and the bytes of a request body; the chunks of a response body. Out: a `ParsedRequest` or
`BadRequest`, the body with another model name, a `TokenUsage`.
Pure functions, the API of a path memoized, and parsers without state. Which parser reads a request is decided
in `epp.requestcontrol.request_parser`. No ext_proc here, and no tokenization: the token producer counts the text.
"""
