"""What several `epp-batch` commands share: groups of flags with their parsers, and the steps between flags and a run.

`*_flags` modules and `plan_inputs` each add a group of flags and turn its values into the options that a package below
takes; `flag_values` parses single values. The others are steps of a command: `run_building` makes a run of sources and
flags, `run_target` finds the run that is meant, `preflight` reads the cluster, `submission` replaces what an earlier
submission left and follows the run, `dry_run` prints one. Nothing is kept between calls.
"""
