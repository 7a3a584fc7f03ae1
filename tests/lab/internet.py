"""The internet of the lab: a web server that counts, something on port 443, UDP echo. Threads here, sockets there."""

import contextlib
import http.server
import socket
import socketserver
import threading
import time

from .place import Place

HOST4 = "198.51.100.80"
HOST6 = "2001:db8:80::80"
UPLINK4 = "203.0.113.1"
UPLINK6 = "2001:db8::1"
MINT4 = "203.0.113.10"
AWAY = f"http://{MINT4}:9"
"""A mint that nobody reaches: nothing is sold with it."""


class Internet:
    """Servers on `HOST4`/`HOST6`: HTTP on 80 (`/bytes/N`, `/drip/SECONDS`), plain TCP on 443, UDP echo on 443."""

    def __init__(self, space: Place) -> None:
        self.requests = 0
        self.tls_connections = 0
        self.udp_datagrams = 0
        self.closing = False
        self.sockets: list[socket.socket] = []
        for host in (HOST4, HOST6):
            self._start(self._serve_http, space.listen(host, 80))
            self._start(self._serve_tls_port, space.listen(host, 443))
            self._start(self._serve_udp, space.udp(host, 443))

    def close(self) -> None:
        self.closing = True
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _start(self, serve, sock: socket.socket) -> None:
        self.sockets.append(sock)
        threading.Thread(target=serve, args=(sock,), daemon=True).start()

    def _serve_http(self, sock: socket.socket) -> None:
        internet = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                internet.requests += 1
                kind, _, value = self.path.strip("/").partition("/")
                if kind == "drip":
                    return self.drip(float(value))
                body = bytes(int(value)) if kind == "bytes" else b"the internet\n"
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def drip(self, seconds: float) -> None:
                """A running download: 1 KiB every 20 ms."""
                self.send_response(200)
                self.send_header("Connection", "close")
                self.end_headers()
                until = time.monotonic() + seconds
                with contextlib.suppress(OSError):
                    while time.monotonic() < until:
                        self.wfile.write(bytes(1024))
                        time.sleep(0.02)
                self.close_connection = True

            def log_message(self, *_) -> None:
                pass

        server = _Server(sock.getsockname(), Handler)
        while not self.closing:
            try:
                server.process_request(*sock.accept())
            except OSError:
                time.sleep(0.01)  # shut down, or no descriptor is free for a moment

    def _serve_tls_port(self, sock: socket.socket) -> None:
        while not self.closing:
            try:
                connection, _ = sock.accept()
            except OSError:
                time.sleep(0.01)  # shut down, or no descriptor is free for a moment
                continue
            self.tls_connections += 1
            connection.close()

    def _serve_udp(self, sock: socket.socket) -> None:
        while not self.closing:
            try:
                data, peer = sock.recvfrom(65536)
                if not peer:  # shut down
                    return
                self.udp_datagrams += 1
                sock.sendto(data, peer)
            except OSError:
                time.sleep(0.01)  # shut down, or there is no way back to this one


class _Server(socketserver.ThreadingMixIn, socketserver.BaseServer):
    """Answers the connections it is handed, each in a thread of its own."""

    daemon_threads = True

    def handle_error(self, request, client_address) -> None:
        pass

    def shutdown_request(self, request) -> None:
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_WR)
        request.close()
