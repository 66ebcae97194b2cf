"""The bank as a web service with Flask: a Store in each worker process, shared by its threads."""
