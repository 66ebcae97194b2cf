"""How gunicorn serves the bank: the application is made once, then it forks, and each process opens the store."""

from __future__ import annotations

from typing import Protocol

from flask import Flask

from examples.web_flask.app import begin, end

preload_app = True
worker_class = "gthread"
threads = 16
graceful_timeout = 10
control_socket_disable = True


class Worker(Protocol):
    """What is needed of a worker process."""

    wsgi: Flask


def post_worker_init(worker: Worker) -> None:
    """A worker is about to serve."""
    begin(worker.wsgi)


def worker_exit(server: object, worker: Worker) -> None:
    """A worker has answered all requests."""
    end(worker.wsgi)
