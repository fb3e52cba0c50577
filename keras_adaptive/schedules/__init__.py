"""Learning rate schedules and recipes."""
