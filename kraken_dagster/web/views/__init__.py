"""What each page shows, as plain data from the table and the report. Knows no HTML."""
