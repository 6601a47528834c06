"""Envoy's protocol: transports, the sans-IO session, and how a request is known to be over."""
