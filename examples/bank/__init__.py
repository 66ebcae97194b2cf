"""A bank: accounts with balance, overdraft and end; a transfer is one event in two accounts."""
