"""What several `epp-batch` commands share: groups of flags with their parsers, and the steps between flags and a run.

`*_flags` modules each add a group of flags and turn its values into the options that a package below takes. The others
are steps of a command: `run_target` finds the run that is meant, `preflight` reads the cluster, `submission` stores and
follows a run, `dry_run` prints one. Nothing is kept between calls.
"""
