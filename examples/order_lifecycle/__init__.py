"""The life of an order in one stream, snapshots of it, and notices for customers from the event hub."""
