"""What is known of the pool: stable slots, columns with one writer, the in-flight ledger. No I/O."""
