"""Quality control on the page: an instrument at a glance, charts, and what people say of runs."""
