"""From the text of an EndpointPickerConfig (llm-d's format) to a plan of instantiated plugins.

Flows in: the text, and the plugin classes that installed packages register as entry points. Flows out: a `PickerPlan`
with every plugin created, checked and in order, or a `ConfigError` with every problem, its path and its line. `loader`
runs the steps: `yaml_document` reads the text, `convert` and `schema` give it types, `plugin_set` creates the declared
plugins, `sections` and `defaults` resolve references and add llm-d's defaults, `data_graph` orders the producers.
No state remains here after loading, and only the text is read: files and flags belong to `epp.cli`.
"""
