"""What people read: the scorecard."""
