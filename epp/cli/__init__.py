"""The `epp` command line: one module for each command, with `add_arguments(parser)` and `run(arguments) -> exit code`.

In: command-line arguments. Out: exit codes and text for people.
Holds no state. Flags and printing only: what a command does is implemented by the packages below, so that it can be
used as a library too. `epp.__main__` imports the one command that runs; no other package imports these modules.
"""
