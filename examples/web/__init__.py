"""What the web services share: orders, the read model, streams, and what goes wrong as HTTP tells it."""
