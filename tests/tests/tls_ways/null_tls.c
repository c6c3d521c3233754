/* A library with the names and the record headers of OpenSSL and no cipher: this kernel may have no TLS of its own,
 * without which SSL_sendfile of the real library refuses. What is tested is that its call is understood. */
#include <stddef.h>
#include <sys/sendfile.h>
#include <sys/types.h>
#include <unistd.h>

struct ssl { int fd; };

static void header(int fd, int type, size_t length)
{
	unsigned char head[5] = { type, 3, 3, length >> 8, length };
	write(fd, head, 5);
}

int SSL_set_fd(struct ssl *ssl, int fd) { ssl->fd = fd; return 1; }
int SSL_do_handshake(struct ssl *ssl) { header(ssl->fd, 22, 4); return write(ssl->fd, "\2\0\0\0", 4) == 4; }
int SSL_write(struct ssl *ssl, const void *buffer, int length)
{
	header(ssl->fd, 23, length);
	return write(ssl->fd, buffer, length);
}
int SSL_read(struct ssl *ssl, void *buffer, int length)
{
	unsigned char head[5];
	if (read(ssl->fd, head, 5) != 5)
		return 0;
	int there = head[3] << 8 | head[4];
	return read(ssl->fd, buffer, there < length ? there : length);
}
ssize_t SSL_sendfile(struct ssl *ssl, int file, off_t offset, size_t length, int flags)
{
	if (flags)
		return -1;
	header(ssl->fd, 23, length);
	return sendfile(ssl->fd, file, &offset, length);
}
