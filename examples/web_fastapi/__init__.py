"""The bank as a web service with FastAPI: an AsyncStore in each worker process."""
