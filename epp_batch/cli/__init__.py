"""The commands of `epp-batch`, one module each: `add_arguments(parser)` and `run(args) -> exit code`.

In:  command line arguments and files. Out: text, JSON lines or files for a user, and the exit code.

`epp_batch.__main__` imports the module of the command that is called, so imports at the top of a module cost only that
command. Imports inside functions remain for what most calls do not need and takes long: openai, rich, Whisper.
What several commands share is in `cli.lib`. Nothing else imports this package.
"""
