"""The errors of the ground floor: one base, three children."""


class PipeError(Exception):
    """Something went wrong between a controller and a worker."""


class FrameError(PipeError):
    """The bytes read are not a frame of ours; the connection that carried them must end.

    ``why`` names the check that failed (``magic``, ``version``, ``length``, ``crc``, ``body``).
    """

    def __init__(self, why: str, detail: str = "") -> None:
        self.why = why
        self.detail = detail
        super().__init__(f"bad frame ({why}){': ' + detail if detail else ''}")


class ConnectionEnded(PipeError):
    """The other end of the FIFOs is gone (end-of-file, EPIPE or a closed descriptor)."""


class BlobError(PipeError):
    """A body that travels as a file is missing, has the wrong size or the wrong digest, or is not ours."""

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"blob {path}: {why}")
