"""What operators have done from the page: forms, the steps behind them, and what became of them."""
