/*
 * A disk that fails, for one process: loaded before its C library (LD_PRELOAD), it does to files
 * what the names of the files in $SUNDOWN_TEST_DISK say.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int is(const char *what)
{
    char path[4096];
    const char *directory = getenv("SUNDOWN_TEST_DISK");
    snprintf(path, sizeof path, "%s/%s", directory ? directory : "", what);
    return access(path, F_OK) == 0;
}

static int sync_as(const char *name, int fd)
{
    while (is("sync-hangs"))
        usleep(1000);
    if (is("sync-fails")) {
        errno = EIO;
        return -1;
    }
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}

int fsync(int fd) { return sync_as("fsync", fd); }
int fdatasync(int fd) { return sync_as("fdatasync", fd); }

/* Of regular files only: a pipe or a socket is no disk. */
static void wait_to_write(int fd)
{
    struct stat status;
    if (!is("write-hangs") || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
        return;
    char path[4096];
    snprintf(path, sizeof path, "%s/hanging", getenv("SUNDOWN_TEST_DISK"));
    close(open(path, O_CREAT | O_WRONLY, 0600));
    while (is("write-hangs"))
        usleep(1000);
}

ssize_t write(int fd, const void *bytes, size_t len)
{
    wait_to_write(fd);
    return ((ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write"))(fd, bytes, len);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at)
{
    wait_to_write(fd);
    return ((ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64"))(fd, bytes, len, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    return pwrite64(fd, bytes, len, at);
}
