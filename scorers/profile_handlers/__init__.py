"""Profile handlers: each decides which scheduling profiles run for a request, and which endpoint is the answer."""
