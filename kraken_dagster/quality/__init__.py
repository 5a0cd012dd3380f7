"""Quality control: charts, limits, rules, and verdicts of runs."""
