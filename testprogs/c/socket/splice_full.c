/* SPDX-License-Identifier: MIT */
/* splice_full.c - splice and sendfile fill a Unix socket without a reader as far as a write would,
 * and refuse a descriptor that cannot be read or written without waiting for the other one. */
#define _GNU_SOURCE
#include <sys/sendfile.h>

#include "background_task.h"
#include "blocking_task.h"

enum { SIZE = 64 << 10 };

static void probe(void)
{
    int ends[2], pipes[2], full[2], file, unreadable;
    size_t done = 0;
    ssize_t n = 1;
    static char much[SIZE];
    background_begin();
    make_file("file", SIZE);
    file = open("file", O_RDONLY | O_CLOEXEC);
    unreadable = open("file", O_WRONLY | O_CLOEXEC);
    if (file < 0 || unreadable < 0 || pipe2(pipes, O_CLOEXEC) ||
        write(pipes[1], much, SIZE) != SIZE)
        die("what is sent");

    make_pair(UNIX_STREAM, ends);
    while (done < SIZE && (n = splice(pipes[0], NULL, ends[0], NULL, SIZE - done, 0)) > 0)
        done += (size_t)n;
    printf("spliced: %zu\n", done);
    close_pair(ends);

    make_pair(UNIX_STREAM, ends);
    for (done = 0; done < SIZE && (n = sendfile(ends[0], file, NULL, SIZE - done)) > 0;)
        done += (size_t)n;
    printf("sent: %zu\n", done);
    close_pair(ends);

    make_pair(UNIX_STREAM, full);
    while (send(full[0], much, SIZE, MSG_DONTWAIT) > 0) {}
    SHOW(splice(pipes[1], NULL, full[0], NULL, 1, 0));
    SHOW(splice(pipes[0], NULL, pipes[0], NULL, 1, 0));
    SHOW(sendfile(full[0], unreadable, NULL, 1));
    SHOW(tee(pipes[1], pipes[1], 1, 0));
    background_end();
}
