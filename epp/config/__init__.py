"""From an EndpointPickerConfig text to a checked, instantiated plan. No I/O beyond the text it is given."""
