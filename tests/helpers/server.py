"""A server of files in memory that can be told to misbehave."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Server(ThreadingHTTPServer):
    """Serves `content` under any name; names with "moved" in them redirect to it.

    Attributes:
        ranges: whether parts can be asked for.
        cut: connections break after so many bytes; 0: never.
        tag: version of the content; "" for none.
        delay: seconds before the content comes.
        asked: the Range header of each request.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.ranges, self.cut, self.tag = content, True, 0, '"1"'
        self.delay = 0.0
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/some/weights.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked, content = self.headers.get("Range"), self.server.content
        if "moved" in self.path:
            self.send_response(302)
            self.send_header("Location", self.path.replace("moved", "some"))
            self.end_headers()
            return
        self.server.asked.append(asked)
        time.sleep(self.server.delay)
        same = self.headers.get("If-Range", self.server.tag) == self.server.tag
        start = 0
        if "missing" in self.path:
            self.send_error(404)
            return
        if asked and self.server.ranges and same:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        if self.server.tag:
            self.send_header("ETag", self.server.tag)
        self.end_headers()
        end = start + self.server.cut if self.server.cut else len(content)
        self.wfile.write(content[start:end])

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(content: bytes) -> Iterator[Server]:
    server = Server(content)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
