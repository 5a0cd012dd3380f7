"""An instrument that got another id, or is out of use."""
