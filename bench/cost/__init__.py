"""CPU, latency and memory of the picker between real Envoy and instant model servers, measured through /proc."""
