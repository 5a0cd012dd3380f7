"""What operators do: start, check, retry, ask for a state."""
