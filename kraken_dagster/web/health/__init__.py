"""Whether the page and Kraken are well, for programs: probes and Prometheus."""
