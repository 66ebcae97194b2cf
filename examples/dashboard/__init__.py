"""A live dashboard of the bank, in the terminal: fed by a subscription and a projection."""
