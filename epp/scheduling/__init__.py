"""The decision: candidates, filters, scorers, picker, reservation. Synchronous unless a producer is not."""
