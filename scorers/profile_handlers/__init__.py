"""Profile handlers: each decides which scheduling profiles run, and which one's choice is the destination."""
