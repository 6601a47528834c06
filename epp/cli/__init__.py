"""The `epp` command line: one module a command, with `add_arguments(parser)` and `run(arguments) -> exit code`.

In: words of the command line. Out: exit codes, and what a person reads. Flags and printing only: what a command does
is done by the packages below it, so that a library user can do the same. Commands are imported one at a time by
`epp.__main__`; no module here is imported by another package.
"""
