"""Fulfilment: a process manager that has paid orders reserved and shipped, and pays back what cannot be."""
