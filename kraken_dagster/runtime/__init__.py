"""What a step works with: services, leases, stores, the recording of failures."""
