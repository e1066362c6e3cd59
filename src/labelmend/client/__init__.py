"""Ask a prediction computer, which ``labelmend serve`` starts, from another program."""

from labelmend.client.asking import Answer, Client
from labelmend.client.files import Got, Wish, predict_files

__all__ = ["Answer", "Client", "Got", "Wish", "predict_files"]
