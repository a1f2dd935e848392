/* SPDX-License-Identifier: MIT */
/* resolver.c - many tasks use the resolver and the name services at once: results, error numbers,
 * h_errno, and the results that libc keeps in static memory. */
#define _GNU_SOURCE
#include "probe.h"

#include <arpa/inet.h>
#include <grp.h>
#include <locale.h>
#include <netdb.h>
#include <pwd.h>
#include <resolv.h>
#include <sys/random.h>
#include <syslog.h>
#include <wordexp.h>

static void addresses(void)
{
    struct addrinfo hints = { .ai_family = AF_INET,
                              .ai_socktype = SOCK_STREAM,
                              .ai_flags = AI_NUMERICHOST };
    struct addrinfo *found = NULL;
    if (SHOW(getaddrinfo("127.0.0.1", "80", &hints, &found)) == 0) {
        char host[NI_MAXHOST], service[NI_MAXSERV];
        SHOW(getnameinfo(found->ai_addr, found->ai_addrlen, host, sizeof host, service,
                         sizeof service, NI_NUMERICHOST | NI_NUMERICSERV));
        printf("%s %s\n", host, service);
        SHOW(getnameinfo(found->ai_addr, 1, host, sizeof host, NULL, 0, 0));
        freeaddrinfo(found);
    }
    SHOW(getaddrinfo("not an address", "80", &hints, &found));
    SHOW(getaddrinfo(NULL, NULL, &hints, &found));
}

static void host(const char *name)
{
    h_errno = 77;
    struct hostent *entry = gethostbyname(name);
    if (entry) {
        char text[INET6_ADDRSTRLEN] = "";
        inet_ntop(entry->h_addrtype, entry->h_addr_list[0], text, sizeof text);
        printf("gethostbyname: %s %s\n", name, text);
    } else {
        printf("gethostbyname: %s: h_errno %d\n", name, h_errno);
    }
}

static void users(void)
{
    struct passwd entry, *result = &entry;
    char buffer[4096];
    errno = ERRNO_UNTOUCHED;
    struct passwd *root = getpwuid(0);
    printf("getpwuid: %s, home %s, errno %d\n", root ? root->pw_name : "nobody",
           root ? root->pw_dir : "", errno);
    SHOW(getpwnam_r("no such user here", &entry, buffer, sizeof buffer, &result));
    printf("result %s\n", result ? "there" : "null");
    SHOW(getpwuid_r(0, &entry, buffer, 4, &result));
    SHOW(getpwuid_r(0, &entry, buffer, sizeof buffer, &result));
    printf("%s\n", result ? result->pw_name : "-");
    struct group *group = getgrgid(0);
    printf("getgrgid: %s\n", group ? group->gr_name : "nobody");
    SHOW(getgrnam("no such group here") == NULL);
    gid_t groups[64];
    int n = 64;
    SHOW(getgrouplist("root", 0, groups, &n) > 0);
    setpwent();
    int users = 0;
    while (getpwent())
        users++;
    endpwent();
    printf("users: %d\n", users);
}

static void services(void)
{
    struct servent *service = getservbyname("http", "tcp");
    printf("getservbyname: %d\n", service ? ntohs((uint16_t)service->s_port) : -1);
    struct protoent *protocol = getprotobyname("tcp");
    printf("getprotobyname: %d\n", protocol ? protocol->p_proto : -1);
    SHOW(getservbyname("no such service", "tcp") == NULL);
}

static void others(void)
{
    unsigned char answer[512];
    /* Refused before a server is asked. */
    char long_name[2000];
    memset(long_name, 'x', sizeof long_name);
    long_name[sizeof long_name - 1] = 0;
    SHOW(res_querydomain(long_name, long_name, 1, 1, answer, sizeof answer) < 0);
    SHOW(res_query(long_name, 1, 1, answer, sizeof answer) < 0);
    char random[300];
    SHOW(getrandom(random, 16, 0));
    SHOW(getrandom(random, sizeof random, 0xffff));
    SHOW(getentropy(random, 16));
    SHOW(getentropy(random, 257));
    wordexp_t words;
    if (SHOW(wordexp("one $((1 + 1)) $(echo three)", &words, 0)) == 0) {
        for (size_t i = 0; i < words.we_wordc; i++)
            printf("word %s\n", words.we_wordv[i]);
        wordfree(&words);
    }
    SHOW(wordexp("(", &words, 0));
    openlog("probe", LOG_NDELAY, LOG_USER);
    syslog(LOG_DEBUG, "%s", "a line that may go nowhere");
    closelog();
}

enum { TASKS = 16, ROUNDS = 8 };

/* Each task looks up something that no other task looks up. */
static void *resolve(void *arg)
{
    unsigned number = *(unsigned *)arg;
    for (unsigned round = 0; round < ROUNDS; round++) {
        char name[32], host[NI_MAXHOST];
        snprintf(name, sizeof name, "127.0.%u.%u", number, round + 1);
        struct addrinfo hints = { .ai_family = AF_INET,
                                  .ai_socktype = SOCK_STREAM,
                                  .ai_flags = AI_NUMERICHOST };
        struct addrinfo *found;
        check(getaddrinfo(name, NULL, &hints, &found), "getaddrinfo");
        check(getnameinfo(found->ai_addr, found->ai_addrlen, host, sizeof host, NULL, 0,
                          NI_NUMERICHOST),
              "getnameinfo");
        freeaddrinfo(found);
        if (strcmp(name, host))
            wrong("%s came back as %s", name, host);
        struct passwd entry, *result;
        char buffer[4096];
        errno = (int)number;
        check(getpwuid_r(0, &entry, buffer, sizeof buffer, &result), "getpwuid_r");
        if (!result || result->pw_uid != 0)
            wrong("getpwuid_r: another user");
    }
    return arg;
}

static void probe(void)
{
    addresses();
    host("localhost");
    host("127.0.0.9");
    host("a name that is none");
    users();
    services();
    others();
    unsigned numbers[TASKS];
    for (unsigned i = 0; i < TASKS; i++)
        numbers[i] = i;
    task_each(resolve, numbers, sizeof *numbers, TASKS);
    puts("resolved");
}
