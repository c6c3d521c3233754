# OpenSSL called as C programs call it, through ctypes: one TLS object for two connections, looks ahead (SSL_peek),
# reads and writes of nothing, a partial write, an orderly end. Arguments: port, certificate, key, library.
import ctypes
import socket
import sys

port, certificate, key, library = int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3].encode(), sys.argv[4]
ssl = ctypes.CDLL(library)
for name in ("TLS_server_method", "SSL_CTX_new", "SSL_new"):
    getattr(ssl, name).restype = ctypes.c_void_p
pointer, integer, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
ssl.SSL_CTX_new.argtypes = ssl.SSL_new.argtypes = ssl.SSL_free.argtypes = ssl.SSL_clear.argtypes = [pointer]
ssl.SSL_accept.argtypes = ssl.SSL_shutdown.argtypes = [pointer]
ssl.SSL_set_fd.argtypes = [pointer, integer]
ssl.SSL_CTX_use_certificate_file.argtypes = ssl.SSL_CTX_use_PrivateKey_file.argtypes = [pointer, ctypes.c_char_p, integer]
ssl.SSL_CTX_ctrl.argtypes = [pointer, integer, ctypes.c_long, pointer]
ssl.SSL_read.argtypes = ssl.SSL_peek.argtypes = ssl.SSL_write.argtypes = [pointer, pointer, integer]
ssl.SSL_read_ex.argtypes = ssl.SSL_peek_ex.argtypes = ssl.SSL_write_ex.argtypes = [pointer, pointer, size, pointer]

context = ssl.SSL_CTX_new(ssl.TLS_server_method())
assert ssl.SSL_CTX_use_certificate_file(context, certificate, 1) == 1
assert ssl.SSL_CTX_use_PrivateKey_file(context, key, 1) == 1
ssl.SSL_CTX_ctrl(context, 33, 1, None)  # SSL_CTRL_MODE, SSL_MODE_ENABLE_PARTIAL_WRITE

listener = socket.create_server(("127.0.0.1", port))
buffer, done = ctypes.create_string_buffer(65536), ctypes.c_size_t()
body = b"x" * 100_000
answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
it = ssl.SSL_new(context)
while True:
    connection, _ = listener.accept()
    ssl.SSL_set_fd(it, connection.fileno())
    if ssl.SSL_accept(it) != 1:
        # Somebody looked whether the port is open.
        ssl.SSL_clear(it)
        connection.close()
        continue
    assert ssl.SSL_peek(it, buffer, 10) == 10
    assert ssl.SSL_peek_ex(it, buffer, 20, ctypes.byref(done)) == 1
    assert ssl.SSL_read(it, buffer, 0) <= 0
    assert ssl.SSL_read(it, buffer, 5) == 5
    assert ssl.SSL_peek(it, buffer, 65536) > 5
    assert ssl.SSL_read_ex(it, buffer, 65536, ctypes.byref(done)) == 1
    ssl.SSL_write(it, answer, 0)
    left = answer
    while left:
        # Partial writes: at most one record's worth is taken.
        assert ssl.SSL_write_ex(it, left, len(left), ctypes.byref(done)) == 1
        left = left[done.value:]
    ssl.SSL_shutdown(it)
    connection.shutdown(socket.SHUT_WR)
    connection.recv(65536)
    connection.close()
    ssl.SSL_clear(it)
