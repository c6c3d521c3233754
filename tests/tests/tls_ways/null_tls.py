# A web server over null_tls.c that sends its page's body by SSL_sendfile, and its client. Argument: the library.
import ctypes
import os
import socket
import sys
import tempfile
import time

ssl = ctypes.CDLL(sys.argv[1])
ssl.SSL_sendfile.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_size_t, ctypes.c_int]
ssl.SSL_sendfile.restype = ctypes.c_ssize_t
time.sleep(3)
listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
page = tempfile.TemporaryFile()
page.write(b"before" + b"y" * 5000)
page.flush()


def record(kind, content):
    return bytes([kind, 3, 3]) + len(content).to_bytes(2, "big") + content


client = socket.create_connection(("127.0.0.1", port))
connection, _ = listener.accept()
it = ctypes.byref(ctypes.c_int())
buffer = ctypes.create_string_buffer(4096)
client.sendall(record(22, b"\1\0\0\0"))
connection.recv(9)
ssl.SSL_set_fd(it, connection.fileno())
ssl.SSL_do_handshake(it)
for number in range(2):
    client.sendall(record(23, b"GET /file/%d HTTP/1.1\r\nHost: x\r\n\r\n" % number))
    assert ssl.SSL_read(it, buffer, 4096) > 0
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5000\r\n\r\n"
    assert ssl.SSL_write(it, head, len(head)) == len(head)
    assert ssl.SSL_sendfile(it, page.fileno(), 6, 5000, 1) == -1
    assert ssl.SSL_sendfile(it, page.fileno(), 6, 5000, 0) == 5000
    client.recv(8192)
    time.sleep(0.2)
connection.close()
client.close()
print(port)
