"""Which configuration answers sooner: the real decisions in front of simulated model servers, in virtual time."""
