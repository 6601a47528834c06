"""What several `epp-batch` commands share: groups of flags, and the steps between flags and a run."""
