"""A plugin of every kind and every optional interface, in a package that imports epp.api only."""
