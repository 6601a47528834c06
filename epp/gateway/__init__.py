"""`epp up`: an Envoy configured and supervised next to the picker."""
