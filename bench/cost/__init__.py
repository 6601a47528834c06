"""What the picker costs: real Envoy in front, instant model servers behind, a load generator, and /proc."""
