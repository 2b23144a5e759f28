"""Errors of the protocol: one base class, three subclasses."""


class PipeError(Exception):
    """Base of the errors between a controller and a worker."""


class FrameError(PipeError):
    """The bytes read are not a valid frame; the connection must be closed.

    ``why``: the check that failed (``magic``, ``version``, ``length``, ``crc``, ``body``).
    """

    def __init__(self, why: str, detail: str = "") -> None:
        self.why = why
        self.detail = detail
        super().__init__(f"bad frame ({why}){': ' + detail if detail else ''}")


class ConnectionEnded(PipeError):
    """The other end of the FIFOs is gone (end-of-file, EPIPE or a closed descriptor)."""


class BlobError(PipeError):
    """A body that travels as a file is missing, has the wrong size or the wrong digest, or is not private."""

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"blob {path}: {why}")
