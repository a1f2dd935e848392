/* SPDX-License-Identifier: MIT */
/* loadgen.c - loads a server on 127.0.0.1 with requests on many connections: one thread with an
 * epoll loop, which checks every answer and measures its latency.
 *
 * Each connection has one request in flight. A request fails if its connection fails, or if the
 * answer has the wrong status, the wrong length, or a wrong byte in its content. Its connection is
 * then replaced. The first failure is explained on standard error. */
#define _GNU_SOURCE
#include "bench.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

static const char usage[] =
    "loadgen PORT CONNECTIONS REQUESTS keep-alive|close http PATH FILE\n"
    "loadgen PORT CONNECTIONS REQUESTS keep-alive|close kv BYTES\n"
    "  keep-alive  requests follow each other on a connection\n"
    "  close       every request has a connection of its own\n"
    "  http        GET /PATH, whose content is that of FILE\n"
    "  kv          memcached's get and set of values of BYTES bytes, 9 to 1\n"
    "Prints one line of JSON.\n";

enum { HEAD = 1024, CHUNK = 1 << 18, KEYS = 1000, VALUES = 26, PATIENCE_MS = 10000 };

struct connection {
    int fd;
    uint64_t started;     /* nanoseconds; 0: it has no request */
    size_t to_send, sent; /* bytes of the request */
    char *request;
    char head[HEAD + 1];     /* the beginning of the answer */
    size_t received, length; /* bytes of the answer; length is 0 until it is known */
    char expected[64];       /* the beginning that the answer must have */
    const char *content;     /* what follows after content_at bytes, until the end */
    size_t content_at;
};

static struct sockaddr_in address;
static int epoll, keep_alive, is_http;
static const char *path;
static size_t bytes;         /* of the file or of a value */
static const char *contents; /* the file, or the values with the end of an answer after each */
static uint64_t requests, issued, done, failures;
static uint32_t *latencies; /* of the answers, in units of 100 ns */
static uint64_t answered;
static char chunk[CHUNK];

static uint64_t random_number(void)
{
    static uint64_t x = UINT64_C(0x9e3779b97f4a7c15);
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return x;
}

static const char end_of_value[] = "\r\nEND\r\n";

/* The value of a key, which has its own letter, and the end of the answer to a get. */
static const char *value_of(unsigned key)
{
    return contents + key % VALUES * (bytes + strlen(end_of_value));
}

/* Writes the request that stores a value. Returns its length. */
static size_t write_set(char *request, unsigned key)
{
    size_t n = (size_t)sprintf(request, "set key:%u 0 0 %zu\r\n", key, bytes);
    memcpy(request + n, value_of(key), bytes + 2);
    return n + bytes + 2;
}

/* Writes the next request and the beginning of its answer. */
static void write_request(struct connection *c)
{
    c->sent = c->received = c->length = 0;
    if (is_http) {
        c->to_send = (size_t)sprintf(
            c->request, "GET /%s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: %s\r\n\r\n", path,
            keep_alive ? "keep-alive" : "close");
        strcpy(c->expected, "HTTP/1.1 200 ");
        c->content = contents;
        return;
    }
    unsigned key = (unsigned)(random_number() >> 32) % KEYS;
    if (random_number() >> 32 < UINT32_MAX / 10) {
        c->to_send = write_set(c->request, key);
        c->length = c->content_at = (size_t)sprintf(c->expected, "STORED\r\n");
    } else {
        c->to_send = (size_t)sprintf(c->request, "get key:%u\r\n", key);
        c->content_at = (size_t)sprintf(c->expected, "VALUE key:%u 0 %zu\r\n", key, bytes);
        c->length = c->content_at + bytes + strlen(end_of_value);
        c->content = value_of(key);
    }
}

/* Starts to connect. Returns whether that has not failed. */
static int start_connection(struct connection *c)
{
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die(errno, "socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        return 0;
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data = { .ptr = c } };
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event))
        die(errno, "epoll_ctl");
    return 1;
}

static void close_connection(struct connection *c)
{
    close(c->fd);
    c->fd = -1;
}

/* Explains the failure if it is the first one. */
static void explain(const struct connection *c, const char *failure)
{
    if (failures == 0)
        fprintf(stderr, "the first failure: %s, after %zu of %zu bytes of the answer\n", failure,
                c->received, c->length);
}

/* `failure` is NULL if the answer was right. */
static void end_request(struct connection *c, const char *failure)
{
    uint64_t units = (now_ns() - c->started) / 100;
    c->started = 0;
    done++;
    if (failure) {
        explain(c, failure);
        failures++;
    } else {
        latencies[answered++] = units > UINT32_MAX ? UINT32_MAX : (uint32_t)units;
    }
    if (failure || !keep_alive)
        close_connection(c);
}

/* Reads the length of an answer over HTTP once its head is complete. Returns 0 if it is wrong. */
static int read_head(struct connection *c, size_t have)
{
    c->head[have] = 0;
    const char *end = strstr(c->head, "\r\n\r\n");
    if (!end)
        return have < HEAD;
    const char *length = strcasestr(c->head, "\r\nContent-Length:");
    if (!length || length > end || strtoull(length + 17, NULL, 10) != bytes)
        return 0;
    c->content_at = (size_t)(end + 4 - c->head);
    c->length = c->content_at + bytes;
    return 1;
}

/* Returns whether the first `n` new bytes of the answer are right. */
static int take(struct connection *c, size_t n)
{
    size_t had = c->received;
    c->received += n;
    if (had < HEAD) {
        size_t room = HEAD - had, part = n < room ? n : room;
        memcpy(c->head + had, chunk, part);
        size_t compared = strlen(c->expected), have = had + part;
        if (compared > have)
            compared = have;
        if (memcmp(c->head, c->expected, compared) || (!c->length && !read_head(c, have)))
            return 0;
    }
    if (!c->length)
        return 1;
    if (c->received > c->length)
        return 0;
    size_t from = had > c->content_at ? had : c->content_at;
    return c->received <= from ||
           !memcmp(chunk + (from - had), c->content + (from - c->content_at), c->received - from);
}

static const char lost[] = "the connection failed", ended[] = "the connection ended",
                  wrong[] = "the answer is wrong", late[] = "no answer in time";

/* Sends as much as is possible now. Returns whether the connection works. */
static int send_request(struct connection *c)
{
    while (c->sent < c->to_send) {
        ssize_t n = send(c->fd, c->request + c->sent, c->to_send - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        c->sent += (size_t)n;
    }
    return 1;
}

/* Sends and receives as much as is possible now. Returns whether the request has ended, and if it
 * has failed, stores the reason. */
static int progress(struct connection *c, const char **failure)
{
    *failure = send_request(c) ? NULL : lost;
    while (!*failure) {
        ssize_t n = recv(c->fd, chunk, sizeof chunk, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n <= 0)
            *failure = n ? lost : ended;
        else if (!take(c, (size_t)n))
            *failure = wrong;
        else if (c->length && c->received == c->length)
            return 1;
    }
    return 1;
}

/* Gives the connection its next request, if any is left. The answer makes the connection ready. */
static void next_request(struct connection *c)
{
    while (issued < requests) {
        issued++;
        c->started = now_ns();
        write_request(c);
        if ((c->fd >= 0 || start_connection(c)) && send_request(c))
            return;
        end_request(c, lost);
    }
    if (c->fd >= 0)
        close_connection(c);
}

/* Returns whether all requests have ended in time. */
static int run(void)
{
    struct epoll_event events[256];
    while (done < requests) {
        int n = epoll_wait(epoll, events, 256, PATIENCE_MS);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            die(errno, "epoll_wait");
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            const char *failure;
            if (!c->started || !progress(c, &failure))
                continue;
            end_request(c, failure);
            next_request(c);
        }
    }
    return 1;
}

/* Stores all keys, over a connection that blocks. */
static void fill(char *request)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address))
        die(errno, "cannot connect");
    for (unsigned key = 0; key < KEYS; key++) {
        char answer[8];
        size_t n = write_set(request, key);
        if (send(fd, request, n, MSG_NOSIGNAL) != (ssize_t)n ||
            recv(fd, answer, sizeof answer, MSG_WAITALL) != sizeof answer ||
            memcmp(answer, "STORED\r\n", sizeof answer))
            die(0, "cannot store a key");
    }
    close(fd);
}

/* Reads the file that the server serves. */
static void read_contents(const char *file)
{
    struct stat st;
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        die(errno, "%s", file);
    bytes = (size_t)st.st_size;
    char *copy = malloc(bytes + 1);
    if (!copy)
        die(ENOMEM, "%s", file);
    if (read(fd, copy, bytes + 1) != (ssize_t)bytes)
        die(0, "%s: not read in one piece", file);
    close(fd);
    contents = copy;
}

/* Makes a value for each letter, followed by the end of an answer. */
static void make_values(void)
{
    char *to = malloc(VALUES * (bytes + sizeof end_of_value));
    if (!to)
        die(ENOMEM, "values of %zu bytes", bytes);
    contents = to;
    for (int i = 0; i < VALUES; i++) {
        memset(to, 'a' + i, bytes);
        memcpy(to + bytes, end_of_value, sizeof end_of_value);
        to += bytes + strlen(end_of_value);
    }
}

static int by_size(const void *a, const void *b)
{
    uint32_t first = *(const uint32_t *)a, second = *(const uint32_t *)b;
    return (first > second) - (first < second);
}

/* Returns the latency in microseconds that a part of the answers does not exceed. */
static double quantile(double part)
{
    return answered ? latencies[(uint64_t)(part * (double)(answered - 1))] / 10.0 : 0;
}

int main(int argc, char **argv)
{
    is_http = argc == 8 && !strcmp(argv[5], "http");
    int is_kv = argc == 7 && !strcmp(argv[5], "kv");
    if (!is_http && !is_kv) {
        fputs(usage, stderr);
        return 2;
    }
    unsigned count = (unsigned)strtoul(argv[2], NULL, 10);
    requests = strtoull(argv[3], NULL, 10);
    keep_alive = !strcmp(argv[4], "keep-alive");
    path = argv[6];
    if (is_http) {
        read_contents(argv[7]);
    } else {
        bytes = strtoull(argv[6], NULL, 10);
        make_values();
    }
    struct connection *connections = calloc(count, sizeof *connections);
    latencies = calloc(requests, sizeof *latencies);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct rlimit limit;
    if (!count || !requests || !bytes || !connections || !latencies || epoll < 0 ||
        getrlimit(RLIMIT_NOFILE, &limit) || strlen(path) > HEAD) {
        fputs(usage, stderr);
        return 2;
    }
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)strtoul(argv[1], NULL, 10));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (unsigned i = 0; i < count; i++) {
        connections[i].fd = -1;
        connections[i].request = malloc(2 * HEAD + (is_kv ? bytes : 0));
        if (!connections[i].request)
            die(ENOMEM, "%u connections", count);
    }
    if (is_kv)
        fill(connections[0].request);
    uint64_t start = now_ns();
    for (unsigned i = 0; i < count; i++)
        next_request(&connections[i]);
    if (!run()) {
        const struct connection *c = connections;
        while (!c->started)
            c++;
        explain(c, late);
        failures += requests - done;
    }
    uint64_t ns = now_ns() - start;
    qsort(latencies, answered, sizeof *latencies, by_size);
    printf("{\"requests\": %llu, \"failures\": %llu, \"ns\": %llu, \"p50_us\": %.1f, "
           "\"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f}\n",
           (unsigned long long)requests, (unsigned long long)failures, (unsigned long long)ns,
           quantile(0.5), quantile(0.99), quantile(0.999), quantile(1));
    return 0;
}
