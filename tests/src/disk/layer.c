/* A layer between a program and its files, loaded before libc: counts the calls that reach files below one folder,
 * fails or kills at one of them, and writes down what was done, in order. Knows nothing of what the files hold.
 *
 * DISK_ROOT   the folder; calls on other files pass through
 * DISK_KIND, DISK_WHEN, DISK_HOW   the call to hit: its kind, its ordinal from 1, EIO, ENOSPC or KILL
 * DISK_LOG    a file for "kind \t path \t other path \t number \t bytes \n" and that many bytes, one for each call;
 *             "none" and its kind in the place of the other path for a call that failed by itself
 * DISK_LOG_ONLY_HIT   writes only the call that was hit
 * DISK_CLOCK  seconds that the wall clock is ahead; below zero it is behind
 *
 * KILL comes before the call, and in the middle of a write. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { OPEN, WRITE, SYNC, RENAME, LINK, TRUNCATE, UNLINK, MKDIR, READ, CHMOD, KINDS };
static const char *const NAMES[KINDS] = { "open", "write", "sync", "rename", "link", "truncate", "unlink",
                                          "mkdir", "read", "chmod" };
#define FDS 65536
static char *paths[FDS];
static char root[PATH_MAX];
static size_t root_length;
static int log_fd = -1, only_hit, hit_kind = -1, hit_errno, hit_kill;
static long hit_when, counts[KINDS], clock_ahead;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void)
{
    const char *value = getenv("DISK_CLOCK");
    clock_ahead = value ? atol(value) : 0;
    if (!(value = getenv("DISK_ROOT")))
        return;
    snprintf(root, sizeof root, "%s", value);
    root_length = strlen(root);
    if ((value = getenv("DISK_LOG")))
        log_fd = syscall(SYS_openat, AT_FDCWD, value, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    only_hit = getenv("DISK_LOG_ONLY_HIT") != NULL;
    if (!(value = getenv("DISK_KIND")))
        return;
    for (int kind = 0; kind < KINDS; kind++)
        if (!strcmp(value, NAMES[kind]))
            hit_kind = kind;
    value = getenv("DISK_WHEN");
    hit_when = value ? atol(value) : 0;
    value = getenv("DISK_HOW");
    hit_kill = value && !strcmp(value, "KILL");
    hit_errno = value && !strcmp(value, "ENOSPC") ? ENOSPC : EIO;
}

/* The path below the root, or NULL. */
static const char *below(int folder, const char *path, char *buffer)
{
    if (!root_length || !path)
        return NULL;
    if (path[0] != '/') {
        if (folder < 0 || folder >= FDS || !paths[folder])
            return NULL;
        snprintf(buffer, PATH_MAX, "%s/%s", paths[folder], path);
        return buffer;
    }
    if (strncmp(path, root, root_length) || (path[root_length] && path[root_length] != '/'))
        return NULL;
    snprintf(buffer, PATH_MAX, "%s", path[root_length] ? path + root_length + 1 : ".");
    return buffer;
}

static const char *of_fd(int fd)
{
    return fd >= 0 && fd < FDS ? paths[fd] : NULL;
}

static void told(const char *kind, const char *path, const char *other, long number, const void *bytes, size_t length)
{
    char head[2 * PATH_MAX + 64];
    int size = snprintf(head, sizeof head, "%s\t%s\t%s\t%ld\t%zu\n", kind, path, other, number, length);
    struct iovec parts[2] = { { head, size }, { (void *)bytes, length } };
    if (log_fd >= 0)
        syscall(SYS_writev, log_fd, parts, length ? 2 : 1);
}

/* Counts a call. 1: it is the one that must not be made. Called with the lock held. */
static int hit(enum kind kind, const char *path)
{
    counts[kind]++;
    if ((int)kind != hit_kind || counts[kind] != hit_when)
        return 0;
    told("hit", path, "", counts[kind], NULL, 0);
    if (hit_kill && kind != WRITE)
        kill(getpid(), SIGKILL);
    errno = hit_errno;
    return 1;
}

static void done(const char *kind, const char *path, const char *other, long number, const void *bytes, size_t length)
{
    int kept = errno;
    if (!only_hit)
        told(kind, path, other, number, bytes, length);
    errno = kept;
}

int clock_gettime(clockid_t which, struct timespec *time)
{
    int result = syscall(SYS_clock_gettime, which, time);
    if (!result && which == CLOCK_REALTIME)
        time->tv_sec += clock_ahead;
    return result;
}

static int open_at(int folder, const char *path, int flags, mode_t mode)
{
    char buffer[PATH_MAX];
    const char *name = below(folder, path, buffer);
    if (!name)
        return syscall(SYS_openat, folder, path, flags, mode);
    pthread_mutex_lock(&lock);
    int fd = -1;
    if (!hit(OPEN, name)) {
        int was = syscall(SYS_faccessat, folder, path, F_OK) == 0;
        fd = syscall(SYS_openat, folder, path, flags, mode);
        if (fd >= 0 && fd < FDS) {
            free(paths[fd]);
            paths[fd] = strdup(name);
        }
        const char *what = fd < 0 ? "none" : !was ? "create" : (flags & O_TRUNC) ? "empty" : "open";
        done(what, name, fd < 0 ? NAMES[OPEN] : "", 0, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }
int open(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE(flags) return open_at(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags) return open_at(folder, path, flags, mode); }

int close(int fd)
{
    if (fd >= 0 && fd < FDS && paths[fd]) {
        pthread_mutex_lock(&lock);
        free(paths[fd]);
        paths[fd] = NULL;
        pthread_mutex_unlock(&lock);
    }
    return syscall(SYS_close, fd);
}

int closedir(DIR *folder)
{
    int fd = dirfd(folder);
    if (fd >= 0 && fd < FDS) {
        pthread_mutex_lock(&lock);
        free(paths[fd]);
        paths[fd] = NULL;
        pthread_mutex_unlock(&lock);
    }
    return ((int (*)(DIR *))dlsym(RTLD_NEXT, "closedir"))(folder);
}

static ssize_t write_at(int fd, const void *bytes, size_t length, off_t offset, int at)
{
    const char *name = of_fd(fd);
    if (!name)
        return at ? syscall(SYS_pwrite64, fd, bytes, length, offset) : syscall(SYS_write, fd, bytes, length);
    pthread_mutex_lock(&lock);
    int is_hit = hit(WRITE, name);
    ssize_t written = -1;
    if (!is_hit || hit_kill) {
        size_t part = is_hit ? length / 2 : length;
        written = at ? syscall(SYS_pwrite64, fd, bytes, part, offset) : syscall(SYS_write, fd, bytes, part);
        if (is_hit)
            kill(getpid(), SIGKILL);
        if (written >= 0)
            done("write", name, "", at ? offset : lseek(fd, 0, SEEK_CUR) - written, bytes, written);
    }
    pthread_mutex_unlock(&lock);
    return written;
}
ssize_t write(int fd, const void *bytes, size_t length) { return write_at(fd, bytes, length, 0, 0); }
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return write_at(fd, bytes, length, offset, 1); }
ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) { return write_at(fd, bytes, length, offset, 1); }
ssize_t writev(int fd, const struct iovec *parts, int count)
{
    if (!of_fd(fd) || count < 1)
        return syscall(SYS_writev, fd, parts, count);
    return write_at(fd, parts[0].iov_base, parts[0].iov_len, 0, 0); /* A short write, which is allowed. */
}
/* Callers fall back to read and write, which are counted. */
ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *there, size_t length, unsigned flags)
{
    (void)from, (void)at, (void)to, (void)there, (void)length, (void)flags;
    errno = ENOSYS;
    return -1;
}
ssize_t sendfile64(int to, int from, off64_t *offset, size_t length)
{
    if (!of_fd(to))
        return syscall(SYS_sendfile, to, from, offset, length);
    errno = ENOSYS;
    return -1;
}

/* A call on an open file. */
#define ON_FD(kind, fd, number, call) \
    const char *name = of_fd(fd); \
    if (!name) \
        return call; \
    pthread_mutex_lock(&lock); \
    long result = -1; \
    if (!hit(kind, name)) { \
        result = call; \
        done(result < 0 ? "none" : NAMES[kind], name, result < 0 ? NAMES[kind] : "", number, NULL, 0); \
    } \
    pthread_mutex_unlock(&lock); \
    return result;
int fsync(int fd) { ON_FD(SYNC, fd, 0, syscall(SYS_fsync, fd)) }
int fdatasync(int fd) { ON_FD(SYNC, fd, 0, syscall(SYS_fdatasync, fd)) }
int ftruncate(int fd, off_t length) { ON_FD(TRUNCATE, fd, length, syscall(SYS_ftruncate, fd, length)) }
int ftruncate64(int fd, off_t length) { ON_FD(TRUNCATE, fd, length, syscall(SYS_ftruncate, fd, length)) }
int fchmod(int fd, mode_t mode) { ON_FD(CHMOD, fd, mode, syscall(SYS_fchmod, fd, mode)) }
ssize_t read(int fd, void *to, size_t length) { ON_FD(READ, fd, 0, syscall(SYS_read, fd, to, length)) }
ssize_t pread(int fd, void *to, size_t n, off_t at) { ON_FD(READ, fd, 0, syscall(SYS_pread64, fd, to, n, at)) }
ssize_t pread64(int fd, void *to, size_t n, off_t at) { ON_FD(READ, fd, 0, syscall(SYS_pread64, fd, to, n, at)) }

/* A call on a name. */
#define ON_PATH(kind, what, folder, path, number, call) \
    char buffer[PATH_MAX]; \
    const char *name = below(folder, path, buffer); \
    if (!name) \
        return call; \
    pthread_mutex_lock(&lock); \
    int result = -1; \
    if (!hit(kind, name)) { \
        result = call; \
        done(result < 0 ? "none" : what, name, result < 0 ? what : "", number, NULL, 0); \
    } \
    pthread_mutex_unlock(&lock); \
    return result;
int unlink(const char *path) { ON_PATH(UNLINK, "unlink", AT_FDCWD, path, 0, syscall(SYS_unlink, path)) }
int rmdir(const char *path) { ON_PATH(UNLINK, "unlink", AT_FDCWD, path, 0, syscall(SYS_rmdir, path)) }
int unlinkat(int folder, const char *path, int flags)
{
    ON_PATH(UNLINK, "unlink", folder, path, 0, syscall(SYS_unlinkat, folder, path, flags))
}
int mkdir(const char *path, mode_t mode) { ON_PATH(MKDIR, "mkdir", AT_FDCWD, path, 0, syscall(SYS_mkdir, path, mode)) }
int chmod(const char *path, mode_t mode) { ON_PATH(CHMOD, "chmod", AT_FDCWD, path, mode, syscall(SYS_chmod, path, mode)) }

/* A call on two names. */
#define ON_PATHS(kind, from, to, call) \
    char first[PATH_MAX], second[PATH_MAX]; \
    const char *one = below(AT_FDCWD, from, first), *other = below(AT_FDCWD, to, second); \
    if (!one || !other) \
        return call; \
    pthread_mutex_lock(&lock); \
    int result = -1; \
    if (!hit(kind, other)) { \
        result = call; \
        done(result < 0 ? "none" : NAMES[kind], one, result < 0 ? NAMES[kind] : other, 0, NULL, 0); \
    } \
    pthread_mutex_unlock(&lock); \
    return result;
int rename(const char *from, const char *to) { ON_PATHS(RENAME, from, to, syscall(SYS_rename, from, to)) }
int link(const char *from, const char *to) { ON_PATHS(LINK, from, to, syscall(SYS_link, from, to)) }
int linkat(int folder, const char *from, int other_folder, const char *to, int flags)
{
    ON_PATHS(LINK, from, to, syscall(SYS_linkat, folder, from, other_folder, to, flags))
}
