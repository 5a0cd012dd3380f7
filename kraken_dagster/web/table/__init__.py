"""All raw files as columns, and questions to them. Knows neither MongoDB nor browsers."""
