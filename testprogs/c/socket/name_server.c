/* SPDX-License-Identifier: MIT */
/* name_server.c - many tasks ask a name server of the program's own, which the first task has set.
 * Each gets the answer to its own question, whichever worker runs it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/socket.h>

#include "probe.h"

enum { TASKS = 64, QUERIES = 10, PREFIX = 12, ANSWER = 16 };

static int server_socket;
static struct sockaddr_in server_address;

/* Answers "qNNN.test" with the address 10.0.HIGH.LOW of that number. */
static void *serve(void *arg)
{
    for (;;) {
        unsigned char packet[600];
        struct sockaddr_in from;
        socklen_t length = sizeof from;
        ssize_t n = recvfrom(server_socket, packet, 512, 0, (struct sockaddr *)&from, &length);
        if (n <= PREFIX + 5)
            return arg;
        int number = atoi((char *)packet + PREFIX + 2);
        int end = PREFIX;
        while (packet[end])
            end += packet[end] + 1;
        end += 5;
        packet[2] = 0x84; /* an answer, with authority */
        packet[3] = 0;
        packet[7] = 1;
        packet[10] = packet[11] = 0;
        unsigned char answer[ANSWER] = { 0xc0, PREFIX, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 10, 0 };
        answer[14] = (unsigned char)(number >> 8);
        answer[15] = (unsigned char)number;
        memcpy(packet + end, answer, ANSWER);
        sendto(server_socket, packet, (size_t)end + ANSWER, 0, (struct sockaddr *)&from, length);
    }
}

static void use_own_server(void)
{
    if (res_init())
        wrong("res_init");
    _res.nscount = 1;
    _res.nsaddr_list[0] = server_address;
    _res.options &= ~(unsigned long)(RES_DNSRCH | RES_DEFNAMES);
}

/* The number in the answer to a question, or -1. */
static int ask(int number)
{
    char name[32];
    unsigned char answer[512];
    snprintf(name, sizeof name, "q%d.test", number);
    int n = res_query(name, C_IN, T_A, answer, sizeof answer);
    ns_msg message;
    ns_rr record;
    if (n <= 0 || ns_initparse(answer, n, &message) || ns_parserr(&message, ns_s_an, 0, &record))
        return -1;
    const unsigned char *address = ns_rr_rdata(record);
    return address[2] << 8 | address[3];
}

/* The tasks that keep one worker each busy, until all workers have one. */
static atomic_uint busy;

static void *client(void *arg)
{
    int first = *(int *)arg;
    if (!task_options.threads && first / QUERIES < (int)task_options.workers) {
        busy++;
        while (busy < task_options.workers)
            ;
    }
    /* A thread has settings of its own. */
    if (task_options.threads)
        use_own_server();
    for (int i = 0; i < QUERIES; i++) {
        int number = first + i, answer = ask(number);
        if (answer != number)
            wrong("the answer to question %d is %d: %s", number, answer, hstrerror(h_errno));
    }
    return arg;
}

static void probe(void)
{
    socklen_t length = sizeof server_address;
    int large = 4 << 20;
    server_address.sin_family = AF_INET;
    server_address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server_socket = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr *address = (struct sockaddr *)&server_address;
    if (server_socket < 0 || bind(server_socket, address, length) ||
        getsockname(server_socket, address, &length) ||
        setsockopt(server_socket, SOL_SOCKET, SO_RCVBUF, &large, sizeof large))
        die("the server's socket");
    pthread_t server;
    check(pthread_create(&server, NULL, serve, NULL), "pthread_create");
    use_own_server();
    int first[TASKS];
    for (int i = 0; i < TASKS; i++)
        first[i] = i * QUERIES;
    task_each(client, first, sizeof *first, TASKS);
    puts("each question was answered");
    /* An empty packet ends the server. */
    if (sendto(server_socket, "", 0, 0, address, length))
        die("sendto");
    check(pthread_join(server, NULL), "pthread_join");
    close(server_socket);
}
