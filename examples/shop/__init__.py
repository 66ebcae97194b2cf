"""A shop: products with prices and stock, and orders that reserve it, are placed, cancelled and shipped."""
