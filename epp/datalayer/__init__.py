"""Where endpoints and their numbers come from: files, DNS, flags, metric pages."""
