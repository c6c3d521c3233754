# A web server over whichever libssl the loader finds: answers every GET with "ok". Arguments: port, certificate,
# key, seconds to wait before the TLS library is loaded at all.
import http.server
import sys
import time

port, certificate, key, late = int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
time.sleep(late)
import ssl  # noqa: E402


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *arguments):
        pass


server = http.server.HTTPServer(("127.0.0.1", port), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.options |= 1 << 8  # SSL_OP_ALLOW_CLIENT_RENEGOTIATION
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
