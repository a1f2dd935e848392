/* SPDX-License-Identifier: MIT */
/* httpd.c - a static file server with keep-alive and sendfile. */
#define _GNU_SOURCE
#include "server.h"

#include <sys/sendfile.h>
#include <sys/stat.h>

static const char usage[] = "httpd WORKERS DIR\n"
                            "  WORKERS  OS threads that run the fibers\n"
                            "  DIR      directory of the files\n"
                            "Prints a line with its port, and one with its cost when standard "
                            "input ends.\n";

/* The head of an answer travels in one segment with a file of at most this many bytes. A larger
 * file would follow in segments that begin inside a page, which takes up to twice the time. */
enum { SMALL = 16 << 10 };

static int root;

/* Returns 0, or -1 if the peer is gone. */
static int answer(int connection, const char *path, int keep_alive)
{
    static const char missing[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nnot found\n";
    char head[256];
    struct stat st;
    int fd = strstr(path, "..") ? -1 : openat(root, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        if (fd >= 0)
            close(fd);
        return send_all(connection, missing, sizeof missing - 1, 0);
    }
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 200 OK\r\nContent-Length: %lld\r\nConnection: %s\r\n\r\n",
                     (long long)st.st_size, keep_alive ? "keep-alive" : "close");
    int together = st.st_size > 0 && st.st_size <= SMALL;
    int error = send_all(connection, head, (size_t)n, together ? MSG_MORE : 0);
    for (off_t at = 0; !error && at < st.st_size;) {
        ssize_t sent = sendfile(connection, fd, &at, (size_t)(st.st_size - at));
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            error = -1;
    }
    close(fd);
    return error;
}

/* Answers requests until the peer is gone or has asked to close the connection. */
static void serve_requests(int connection)
{
    char request[8192], path[1024];
    size_t have = 0;
    for (;;) {
        char *end;
        request[have] = 0;
        while (!(end = strstr(request, "\r\n\r\n"))) {
            ssize_t n = recv(connection, request + have, sizeof request - 1 - have, 0);
            if (n < 0 && errno == EINTR)
                continue;
            if (n <= 0)
                return;
            have += (size_t)n;
            request[have] = 0;
            if (have == sizeof request - 1)
                return; /* a request that is too long */
        }
        *end = 0;
        int keep_alive = !strstr(request, "\r\nConnection: close");
        if (sscanf(request, "GET /%1023[^ \r\n]", path) != 1)
            strcpy(path, "index.html");
        atomic_fetch_add_explicit(&server.requests, 1, memory_order_relaxed);
        if (answer(connection, path, keep_alive) || !keep_alive)
            return;
        have -= (size_t)(end + 4 - request);
        memmove(request, end + 4, have);
    }
}

int main(int argc, char **argv)
{
    unsigned workers = argc == 3 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    if (!workers) {
        fputs(usage, stderr);
        return 2;
    }
    root = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        die(errno, "%s", argv[2]);
    server.serve = serve_requests;
    server_run(workers);
    return 0;
}
