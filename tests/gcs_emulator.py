"""A Google Cloud Storage on this machine, for tests: gcp-storage-emulator, with the generations that it leaves out."""

import contextlib
import logging
import socket
import sys
import traceback
from collections.abc import Iterator
from http import HTTPStatus

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

BUCKET = "bucket"
_PLAIN = {name: getattr(objects, name) for name in ("insert", "download")}


def _generation(storage, request, name: str) -> str:
    try:
        return storage.get_file_obj(request.params["bucket_name"], name)["generation"]
    except NotFound:
        return "0"


def _insert(request, response, storage, *args, **kwargs):
    """An upload; ifGenerationMatch is heeded, so that of two writers one can be refused."""
    wanted = request.query.get("ifGenerationMatch")
    if wanted:
        name = request.query["name"][0] if "name" in request.query else request.data["meta"]["name"]
        if _generation(storage, request, name) != wanted[0]:
            response.status = HTTPStatus.PRECONDITION_FAILED
            return
    _PLAIN["insert"](request, response, storage, *args, **kwargs)


def _download(request, response, storage, *args, **kwargs):
    """A download; it says which generation it is of, and nothing more to who has it already."""
    found = _generation(storage, request, request.params["object_id"])
    if request.query.get("ifGenerationNotMatch") == [found] and found != "0":
        response.status = HTTPStatus.NOT_MODIFIED
        return
    _PLAIN["download"](request, response, storage, *args, **kwargs)
    response["x-goog-generation"] = found


def _complete() -> None:
    """Puts the two in the place of the emulator's own, also where it has kept a reference."""
    ours = {_PLAIN["insert"]: _insert, _PLAIN["download"]: _download}
    objects.insert, objects.download = _insert, _download
    for _, methods in server.HANDLERS:
        methods.update({verb: ours.get(handler, handler) for verb, handler in methods.items()})


@contextlib.contextmanager
def emulator() -> Iterator[dict[str, str]]:
    """Runs one in this process, in memory, with an empty bucket BUCKET; gives the environment of its clients."""
    _complete()
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = server.create_server("127.0.0.1", port, in_memory=True, default_bucket=BUCKET)
    running.start()
    running._api._httpd.handle_error = _handle_error
    try:
        yield environment(port)
    finally:
        running.stop()


def _handle_error(request, address) -> None:
    """Clients that lose interest in an answer, or are killed, are nothing to report."""
    if not isinstance(sys.exception(), ConnectionError):
        traceback.print_exc()


def environment(port: int) -> dict[str, str]:
    """Returns the variables that lead gcsfs, Google's client and TensorStore to it, without credentials."""
    address = f"http://127.0.0.1:{port}"
    return {
        "STORAGE_EMULATOR_HOST": address,
        "TENSORSTORE_GCS_HTTP_URL": address,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
        "GOOGLE_CLOUD_PROJECT": "test",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # it would ask Google about the bucket
    }
