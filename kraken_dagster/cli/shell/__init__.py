"""Commands that serve the shell: its environment, completion, and the links to log in."""
