"""What people and machines may see: metrics, logs, the admin pages."""
