"""The collections `project`, `settings` and `project_settings`: what runs on which file."""
