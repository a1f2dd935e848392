/* SPDX-License-Identifier: MIT */
/* fifo.c - both ends of a FIFO are opened by two tasks: each open waits for the other. */
#define _GNU_SOURCE
#include "probe.h"

enum { ROUNDS = 100 };

static int complete;

static void *open_and_write(void *arg)
{
    int fd = open(arg, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        die("open for writing");
    write_full(fd, "through the fifo", 16);
    if (close(fd))
        die("close");
    return NULL;
}

static void *open_and_read(void *arg)
{
    char buf[100];
    int fd = open(arg, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        die("open for reading");
    size_t n = read_full(fd, buf, sizeof buf);
    complete += n == 16 && !memcmp(buf, "through the fifo", n);
    if (close(fd))
        die("close");
    return NULL;
}

/* A FIFO takes the name of a file that was opened so often that its name is known to be a file's.
 */
static void turned(void)
{
    static char path[4200], other[4210];
    if (!getcwd(path, 4096))
        die("getcwd");
    strcat(path, "/turned");
    snprintf(other, sizeof other, "%s.fifo", path);
    complete = 0;
    for (int i = 0; i < ROUNDS; i++) {
        make_file(path, 1);
        for (int j = 0; j < 10; j++) {
            int fd = open(path, j % 2 ? O_RDONLY | O_CLOEXEC : O_WRONLY | O_CLOEXEC);
            if (fd < 0 || fcntl(fd, F_GETFL) & O_NONBLOCK || close(fd))
                die("%s", path);
        }
        switch (i % 4) {
        case 0:
        case 1:
            if (unlink(path) || (i % 4 ? mknod(path, S_IFIFO | 0600, 0) : mkfifo(path, 0600)))
                die("mkfifo");
            break;
        case 2:
            if (mkfifo(other, 0600) || rename(other, path))
                die("rename");
            break;
        default:
            if (mkfifo(other, 0600) || unlink(path) ||
                (i % 8 == 3 ? link(other, path) : symlink(other, path)))
                die("link");
        }
        int reader_first = i / 8 % 2;
        task_t first = task_spawn(reader_first ? open_and_read : open_and_write, path);
        task_t second = task_spawn(reader_first ? open_and_write : open_and_read, path);
        task_join(first);
        task_join(second);
        unlink(path);
        unlink(other);
    }
    printf("read %d times of what was a file\n", complete);
}

static void probe(void)
{
    turned();
    complete = 0;
    if (mkfifo("fifo", 0600))
        die("mkfifo");
    for (int i = 0; i < ROUNDS; i++) {
        int reader_first = i % 2;
        task_t first = task_spawn(reader_first ? open_and_read : open_and_write, "fifo");
        task_t second = task_spawn(reader_first ? open_and_write : open_and_read, "fifo");
        task_join(first);
        task_join(second);
    }
    printf("read %d times\n", complete);
    SHOW_FD(open("fifo", O_WRONLY | O_NONBLOCK | O_CLOEXEC));
    int fd = SHOW_FD(open("fifo", O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    char byte;
    SHOW(read(fd, &byte, 1));
    SHOW(close(fd));
    fd = SHOW_FD(open("fifo", O_RDWR | O_CLOEXEC));
    SHOW(write(fd, "b", 1));
    SHOW(read(fd, &byte, 1));
    SHOW(close(fd));
}
