/* SPDX-License-Identifier: MIT */
/* static_results - results that libc keeps in static memory are per task: they are still there
 * after the task has waited. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/ether.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "probe.h"

enum { ROUNDS = 3 };

static int faults;
static task_barrier_t barrier;

static void expect(int right, const char *what, long task)
{
    if (!right && __atomic_fetch_add(&faults, 1, __ATOMIC_RELAXED) < 5)
        printf("wrong: %s of task %ld\n", what, task);
}

/* Waits until all tasks have made their calls. */
static void meet(void) { task_barrier_wait(&barrier); }

static int same(const char *a, const char *b) { return a && b && !strcmp(a, b); }

static void users_and_groups(long me)
{
    static const char *const names[] = { "root", "daemon", "bin", "sys" };
    const char *name = names[me % 4];
    struct passwd *by_name = getpwnam(name);
    meet();
    if (!by_name) /* this machine has no such user */
        name = NULL;
    expect(!name || same(by_name->pw_name, name), "getpwnam", me);
    uid_t uid = name ? by_name->pw_uid : 0;
    struct passwd *by_uid = getpwuid(uid);
    struct group *group = getgrgid((gid_t)(me % 4));
    struct group *named = getgrnam(name ? name : "root");
    meet();
    expect(!by_uid || by_uid->pw_uid == uid, "getpwuid", me);
    expect(!name || same(by_name->pw_name, name), "getpwnam, after getpwuid", me);
    expect(!group || group->gr_gid == (gid_t)(me % 4), "getgrgid", me);
    expect(!named || same(named->gr_name, name ? name : "root"), "getgrnam", me);
    struct passwd *none = getpwnam("no-such-user");
    expect(!none, "getpwnam of nobody", me);
}

static void hosts_and_services(long me)
{
    char address[32], back[32];
    snprintf(address, sizeof address, "127.0.1.%ld", me + 1);
    struct hostent *host = gethostbyname(address);
    struct hostent *two = gethostbyname2(address, AF_INET);
    struct servent *service = getservbyname(me % 2 ? "http" : "domain", "tcp");
    struct servent *port = getservbyport(htons(me % 2 ? 22 : 25), "tcp");
    struct protoent *protocol = getprotobyname(me % 2 ? "tcp" : "udp");
    struct protoent *number = getprotobynumber(me % 2 ? 6 : 17);
    meet();
    expect(host && same(inet_ntop(AF_INET, host->h_addr_list[0], back, sizeof back), address),
           "gethostbyname", me);
    expect(two && same(inet_ntop(AF_INET, two->h_addr_list[0], back, sizeof back), address),
           "gethostbyname2", me);
    expect(!service || same(service->s_name, me % 2 ? "http" : "domain"), "getservbyname", me);
    expect(!port || port->s_port == htons(me % 2 ? 22 : 25), "getservbyport", me);
    expect(!protocol || same(protocol->p_name, me % 2 ? "tcp" : "udp"), "getprotobyname", me);
    expect(!number || number->p_proto == (me % 2 ? 6 : 17), "getprotobynumber", me);
    /* Some tasks see an error, the others do not. */
    h_errno = 0;
    if (me % 2)
        expect(!gethostbyname("no such name"), "a name that is none", me);
    meet();
    expect((h_errno != 0) == (me % 2 != 0), "h_errno", me);
}

static void texts(long me)
{
    char expected[64], text[64], time_text[32];
    struct in_addr address = { htonl((uint32_t)(0x0a000000 + me)) };
    snprintf(expected, sizeof expected, "10.0.0.%ld", me);
    time_t when = (time_t)me * 86400 * 40;
    struct tm broken;
    gmtime_r(&when, &broken);
    asctime_r(&broken, time_text);
    snprintf(text, sizeof text, "%ld,%ld,%ld", me, me + 1, me + 2);
    struct ether_addr ether = { { 2, 0, 0, 0, 0, (uint8_t)me } };
    char ether_text[32];
    ether_ntoa_r(&ether, ether_text);

    const char *error = strerror(1000 + (int)me), *network = inet_ntoa(address),
               *ether_own = ether_ntoa(&ether);
    const char *signal_name = strsignal(100 + (int)me);
    struct tm *own = gmtime(&when), *local = localtime(&when);
    struct ether_addr *parsed = ether_aton(ether_text);
    const char *own_text = asctime(&broken), *first = strtok(text, ",");
    meet();
    char unknown[64];
    snprintf(unknown, sizeof unknown, "Unknown error %d", 1000 + (int)me);
    expect(same(error, unknown), "strerror", me);
    snprintf(unknown, sizeof unknown, "Unknown signal %d", 100 + (int)me);
    expect(same(signal_name, unknown), "strsignal", me);
    expect(same(network, expected), "inet_ntoa", me);
    expect(same(ether_own, ether_text), "ether_ntoa", me);
    expect(parsed && !memcmp(parsed, &ether, sizeof ether), "ether_aton", me);
    expect(own && own->tm_yday == broken.tm_yday && own->tm_mday == broken.tm_mday, "gmtime", me);
    expect(local && mktime(local) == when, "localtime", me);
    expect(same(own_text, time_text), "asctime", me);
    expect(first && atol(first) == me, "strtok", me);
    for (long at = 1; at < 3; at++) {
        const char *next = strtok(NULL, ",");
        expect(next && atol(next) == me + at, "strtok, further on", me);
        meet();
    }
    expect(!strtok(NULL, ","), "strtok, at the end", me);
}

static void *task(void *arg)
{
    long me = (long)arg;
    for (int round = 0; round < ROUNDS; round++) {
        users_and_groups(me);
        hosts_and_services(me);
        texts(me);
    }
    return NULL;
}

static void probe(void)
{
    enum { TASKS = 16 };
    task_t tasks[TASKS];
    task_barrier_init(&barrier, TASKS);
    for (long i = 0; i < TASKS; i++)
        tasks[i] = task_spawn(task, (void *)i);
    for (int i = 0; i < TASKS; i++)
        task_join(tasks[i]);
    printf("wrong: %d\n", faults);
}
