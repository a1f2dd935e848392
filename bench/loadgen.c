/* SPDX-License-Identifier: MIT */
/* loadgen.c - loads a server on 127.0.0.1 with requests on many connections: one thread with an
 * epoll loop, which checks every answer and measures its latency.
 *
 * Each connection has one request in flight. A request fails if its connection fails, or if the
 * answer has the wrong status, length or beginning. Its connection is then replaced. */
#define _GNU_SOURCE
#include "bench.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

static const char usage[] =
    "loadgen PORT CONNECTIONS REQUESTS keep-alive|close http PATH BYTES\n"
    "loadgen PORT CONNECTIONS REQUESTS keep-alive|close kv BYTES\n"
    "  keep-alive  requests follow each other on a connection\n"
    "  close       every request has a connection of its own\n"
    "  http        GET /PATH, which has BYTES bytes\n"
    "  kv          memcached's get and set of values of BYTES bytes, 9 to 1\n"
    "Prints one line of JSON.\n";

enum { HEAD = 1024, CHUNK = 1 << 18, KEYS = 1000, PATIENCE_MS = 10000 };

struct connection {
    int fd;
    uint64_t started;     /* nanoseconds; 0: it has no request */
    size_t to_send, sent; /* bytes of the request */
    char *request;
    char head[HEAD + 1];     /* the beginning of the answer */
    size_t received, length; /* bytes of the answer; length is 0 until it is known */
    char expected[64];       /* the beginning that the answer must have */
};

static struct sockaddr_in address;
static int epoll, keep_alive, is_http;
static const char *path;
static size_t bytes;
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

/* Writes the next request and the beginning of its answer. */
static void write_request(struct connection *c)
{
    c->sent = c->received = c->length = 0;
    if (is_http) {
        c->to_send = (size_t)sprintf(
            c->request, "GET /%s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: %s\r\n\r\n", path,
            keep_alive ? "keep-alive" : "close");
        strcpy(c->expected, "HTTP/1.1 200 ");
        return;
    }
    unsigned key = (unsigned)(random_number() >> 32) % KEYS;
    if (random_number() >> 32 < UINT32_MAX / 10) {
        size_t n = (size_t)sprintf(c->request, "set key:%u 0 0 %zu\r\n", key, bytes);
        memset(c->request + n, 'v', bytes);
        memcpy(c->request + n + bytes, "\r\n", 2);
        c->to_send = n + bytes + 2;
        c->length = (size_t)sprintf(c->expected, "STORED\r\n");
    } else {
        c->to_send = (size_t)sprintf(c->request, "get key:%u\r\n", key);
        size_t n = (size_t)sprintf(c->expected, "VALUE key:%u 0 %zu\r\n", key, bytes);
        c->length = n + bytes + strlen("\r\nEND\r\n");
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

static void end_request(struct connection *c, int failed)
{
    uint64_t units = (now_ns() - c->started) / 100;
    c->started = 0;
    done++;
    if (failed)
        failures++;
    else
        latencies[answered++] = units > UINT32_MAX ? UINT32_MAX : (uint32_t)units;
    if (failed || !keep_alive)
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
    c->length = (size_t)(end + 4 - c->head) + bytes;
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
    return !c->length || c->received <= c->length;
}

/* Sends as much as is possible now. Returns -1 if the request has failed, otherwise 0. */
static int send_request(struct connection *c)
{
    while (c->sent < c->to_send) {
        ssize_t n = send(c->fd, c->request + c->sent, c->to_send - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        c->sent += (size_t)n;
    }
    return 0;
}

/* Sends and receives as much as is possible now. Returns 1 if the answer is complete, -1 if the
 * request has failed. */
static int progress(struct connection *c)
{
    if (send_request(c))
        return -1;
    for (;;) {
        ssize_t n = recv(c->fd, chunk, sizeof chunk, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        if (n == 0 || !take(c, (size_t)n))
            return -1;
        if (c->length && c->received == c->length)
            return 1;
    }
}

/* Gives the connection its next request, if any is left. The answer makes the connection ready. */
static void next_request(struct connection *c)
{
    while (issued < requests) {
        issued++;
        c->started = now_ns();
        write_request(c);
        if ((c->fd >= 0 || start_connection(c)) && !send_request(c))
            return;
        end_request(c, 1);
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
            if (!c->started)
                continue;
            int state = progress(c);
            if (state == 0)
                continue;
            end_request(c, state < 0);
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
        size_t n = (size_t)sprintf(request, "set key:%u 0 0 %zu\r\n", key, bytes);
        memset(request + n, 'v', bytes);
        memcpy(request + n + bytes, "\r\n", 2);
        n += bytes + 2;
        if (send(fd, request, n, MSG_NOSIGNAL) != (ssize_t)n ||
            recv(fd, answer, sizeof answer, MSG_WAITALL) != sizeof answer ||
            memcmp(answer, "STORED\r\n", sizeof answer))
            die(0, "cannot store a key");
    }
    close(fd);
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
    bytes = strtoull(argv[is_http ? 7 : 6], NULL, 10);
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
        fprintf(stderr, "no answer in %d s\n", PATIENCE_MS / 1000);
        failures += requests - done;
    }
    uint64_t ns = now_ns() - start;
    qsort(latencies, answered, sizeof *latencies, by_size);
    printf("{\"requests\": %llu, \"failures\": %llu, \"ns\": %llu, \"p50_us\": %.1f, "
           "\"p99_us\": %.1f, \"p999_us\": %.1f}\n",
           (unsigned long long)requests, (unsigned long long)failures, (unsigned long long)ns,
           quantile(0.5), quantile(0.99), quantile(0.999));
    return 0;
}
