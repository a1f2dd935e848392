/* SPDX-License-Identifier: MIT */
/* names.h - cases with the resolver and the name services. Access to their files is held; a slow
 * server would delay them in the same way. */

#include <aliases.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/ether.h>
#include <pwd.h>
#include <resolv.h>
#include <rpc/netdb.h>
#include <shadow.h>
#include <syslog.h>
#include <termios.h>
#include <wordexp.h>

/* A look-up that finds nothing still had to search, so most results are not checked. */

static void getaddrinfo_call(unsigned i)
{
    struct addrinfo *found = NULL;
    (void)i;
    must(CALL(int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **),
              getaddrinfo, "localhost", NULL, NULL, &found) == 0,
         "getaddrinfo");
    freeaddrinfo(found);
}

static void getnameinfo_call(unsigned i)
{
    struct sockaddr_in one = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    char host[NI_MAXHOST];
    (void)i;
    must(
        CALL(int (*)(const struct sockaddr *, socklen_t, char *, socklen_t, char *, socklen_t, int),
             getnameinfo, (struct sockaddr *)&one, sizeof one, host, sizeof host, NULL, 0, 0) == 0,
        "getnameinfo");
}

/* Takes one name, or two. */
static void by_name_call(unsigned i)
{
    (void)i;
    (void)CALL(void *(*)(const char *, const char *), (void *)getservbyname, "localhost", "tcp");
}

static void by_number_call(unsigned i)
{
    (void)i;
    (void)CALL(void *(*)(int, const char *), (void *)getservbyport, 80, "tcp");
}

static void gethostbyname2_call(unsigned i)
{
    (void)i;
    (void)CALL(struct hostent * (*)(const char *, int), gethostbyname2, "localhost", AF_INET);
}

static void gethostbyaddr_call(unsigned i)
{
    uint32_t address = htonl(INADDR_LOOPBACK);
    (void)i;
    (void)CALL(struct hostent * (*)(const void *, socklen_t, int), gethostbyaddr, &address, 4,
               AF_INET);
}

struct room {
    char entry[256], text[8192];
    void *result;
    int error;
};

static void host_r_call(unsigned i)
{
    struct room room;
    (void)i;
    (void)((int (*)(const char *, void *, char *, size_t, void *, int *))named)(
        "localhost", room.entry, room.text, sizeof room.text, &room.result, &room.error);
}

static void host2_r_call(unsigned i)
{
    struct room room;
    (void)i;
    (void)((int (*)(const char *, int, void *, char *, size_t, void *, int *))named)(
        "localhost", AF_INET, room.entry, room.text, sizeof room.text, &room.result, &room.error);
}

static void addr_r_call(unsigned i)
{
    struct room room;
    uint32_t address = htonl(INADDR_LOOPBACK);
    (void)i;
    (void)((int (*)(const void *, socklen_t, int, void *, char *, size_t, void *, int *))named)(
        &address, 4, AF_INET, room.entry, room.text, sizeof room.text, &room.result, &room.error);
}

static void netaddr_call(unsigned i)
{
    (void)i;
    (void)CALL(struct netent * (*)(uint32_t, int), getnetbyaddr, 127, AF_INET);
}

static void netaddr_r_call(unsigned i)
{
    struct room room;
    (void)i;
    (void)((int (*)(uint32_t, int, void *, char *, size_t, void *, int *))named)(
        127, AF_INET, room.entry, room.text, sizeof room.text, &room.result, &room.error);
}

static void name_r_call(unsigned i)
{
    struct room room;
    (void)i;
    (void)((int (*)(const char *, void *, char *, size_t, void *))named)(
        "nobody", room.entry, room.text, sizeof room.text, &room.result);
}

static void number_r_call(unsigned i)
{
    struct room room;
    (void)i;
    (void)((int (*)(unsigned, void *, char *, size_t, void *))named)(
        7777, room.entry, room.text, sizeof room.text, &room.result);
}

static void service_r_call(unsigned i)
{
    struct room room;
    (void)i;
    (void)((int (*)(const char *, const char *, void *, char *, size_t, void *))named)(
        "http", "tcp", room.entry, room.text, sizeof room.text, &room.result);
}

static void port_r_call(unsigned i)
{
    struct room room;
    (void)i;
    (void)((int (*)(int, const char *, void *, char *, size_t, void *))named)(
        htons(80), "tcp", room.entry, room.text, sizeof room.text, &room.result);
}

static void getgrouplist_call(unsigned i)
{
    gid_t groups[16];
    int n = 16;
    (void)i;
    must(CALL(int (*)(const char *, gid_t, gid_t *, int *), getgrouplist, "root", 0, groups, &n) >
             0,
         "getgrouplist");
}

/* Every get*ent and set*ent. */
static void ent_call(unsigned i)
{
    (void)i;
    (void)((void *(*)(int))named)(0);
}

static void ent_r_call(unsigned i)
{
    struct room room;
    (void)i;
    (void)((int (*)(void *, char *, size_t, void *))named)(room.entry, room.text, sizeof room.text,
                                                           &room.result);
}

static void ent2_r_call(unsigned i)
{
    struct room room;
    (void)i;
    (void)((int (*)(void *, char *, size_t, void *, int *))named)(
        room.entry, room.text, sizeof room.text, &room.result, &room.error);
}

static void innetgr_call(unsigned i)
{
    (void)i;
    (void)CALL(int (*)(const char *, const char *, const char *, const char *), innetgr, "group",
               NULL, NULL, NULL);
}

static void ether_call(unsigned i)
{
    struct ether_addr address = { { 0 } };
    char host[1024];
    (void)i;
    (void)CALL(int (*)(char *, const struct ether_addr *), ether_ntohost, host, &address);
}

static void ether_host_call(unsigned i)
{
    struct ether_addr address;
    (void)i;
    (void)CALL(int (*)(const char *, struct ether_addr *), ether_hostton, "host", &address);
}

static void getlogin_call(unsigned i)
{
    (void)i;
    (void)CALL(char *(*)(void), getlogin, );
}

static void getlogin_r_call(unsigned i)
{
    char name[64];
    (void)i;
    (void)((int (*)(char *, size_t, size_t))named)(name, sizeof name, sizeof name);
}

static void getpass_call(unsigned i)
{
    (void)i;
    (void)CALL(char *(*)(const char *), getpass, "");
}

static void wordexp_call(unsigned i)
{
    wordexp_t words;
    (void)i;
    must(CALL(int (*)(const char *, wordexp_t *, int), wordexp, "~nobody", &words, 0) == 0,
         "wordexp");
    wordfree(&words);
}

static void gethostid_call(unsigned i)
{
    (void)i;
    (void)CALL(long (*)(void), gethostid, );
}

static void vlog(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    CALL(void (*)(int, const char *, va_list), vsyslog, LOG_DEBUG, format, arguments);
    va_end(arguments);
}

static void vsyslog_call(unsigned i)
{
    (void)i;
    vlog("nothing");
}

static void vlog_chk(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    ((void (*)(int, int, const char *, va_list))named)(LOG_DEBUG, 1, format, arguments);
    va_end(arguments);
}

static void vsyslog_chk_call(unsigned i)
{
    (void)i;
    vlog_chk("nothing");
}

static void syslog_call(unsigned i)
{
    (void)i;
    CALL(void (*)(int, const char *, ...), syslog, LOG_DEBUG, "%s", "nothing");
}

static void syslog_chk_call(unsigned i)
{
    (void)i;
    ((void (*)(int, int, const char *, ...))named)(LOG_DEBUG, 1, "%s", "nothing");
}

static void openlog_call(unsigned i)
{
    (void)i;
    CALL(void (*)(const char *, int, int), openlog, "blocking", LOG_NDELAY, LOG_USER);
}

/* ---- The resolver: its first socket is held, and there is no server ------------------------- */

static unsigned char answer[TASKS][512];

static res_state shared_state;

/* Sets a server address on which nothing listens in the resolver state of the calling thread. */
static void ask_nobody(void)
{
    if (_res.options & RES_INIT)
        return;
    must(res_init() == 0, "res_init");
    _res.nscount = 1;
    _res.nsaddr_list[0] = (struct sockaddr_in){ .sin_family = AF_INET,
                                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                                .sin_port = htons(9) };
    _res.retry = 1;
    _res.retrans = 1;
}

static void share_state(void)
{
    ask_nobody();
    shared_state = &_res;
}

static void res_query_call(unsigned i)
{
    ask_nobody();
    (void)((int (*)(const char *, int, int, unsigned char *, int))named)(
        "host.invalid.", 1, 1, answer[i], sizeof answer[i]);
}

static void res_querydomain_call(unsigned i)
{
    ask_nobody();
    (void)((int (*)(const char *, const char *, int, int, unsigned char *, int))named)(
        "host", "invalid.", 1, 1, answer[i], sizeof answer[i]);
}

static int question(unsigned char *data, int n)
{
    ask_nobody();
    return res_mkquery(QUERY, "host.invalid.", 1, 1, NULL, 0, NULL, data, n);
}

static void res_send_call(unsigned i)
{
    unsigned char data[512];
    int n = question(data, sizeof data);
    (void)((int (*)(const unsigned char *, int, unsigned char *, int))named)(data, n, answer[i],
                                                                             sizeof answer[i]);
}

static void res_nquery_call(unsigned i)
{
    (void)((int (*)(res_state, const char *, int, int, unsigned char *, int))named)(
        shared_state, "host.invalid.", 1, 1, answer[i], sizeof answer[i]);
}

static void res_nquerydomain_call(unsigned i)
{
    (void)((int (*)(res_state, const char *, const char *, int, int, unsigned char *, int))named)(
        shared_state, "host", "invalid.", 1, 1, answer[i], sizeof answer[i]);
}

static void res_nsend_call(unsigned i)
{
    unsigned char data[512];
    int n = question(data, sizeof data);
    (void)((int (*)(res_state, const unsigned char *, int, unsigned char *, int))named)(
        shared_state, data, n, answer[i], sizeof answer[i]);
}

/* ---- Names in memory, terminals ------------------------------------------------------------- */

static void mq_open_call(unsigned i)
{
    (void)i;
    must(CALL(mqd_t(*)(const char *, int, ...), mq_open, "/aioshim-none", O_RDONLY) < 0, "mq_open");
}

static void unlink_name_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(const char *), mq_unlink, "/aioshim-none") < 0, "unlink");
}

static void shm_open_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(const char *, int, mode_t), shm_open, "/aioshim-none", O_RDONLY, 0) < 0,
         "shm_open");
}

static int terminal;
static struct termios settings;

static void open_terminal(void)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    must(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0, "posix_openpt");
    terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
    must(terminal >= 0 && tcgetattr(terminal, &settings) == 0, "ptsname");
}

static void tcdrain_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(int), tcdrain, terminal) == 0, "tcdrain");
}

static void tcsendbreak_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(int, int), tcsendbreak, terminal, 0) == 0, "tcsendbreak");
}

static void tcsetattr_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(int, int, const struct termios *), tcsetattr, terminal, TCSADRAIN,
              &settings) == 0,
         "tcsetattr");
}

#define BY_FILE    \
    {              \
        SYS_openat \
    }

static const struct blocking names[] = {
    { "getaddrinfo", NULL, getaddrinfo_call, NULL, 0, BY_FILE, 0 },
    { "getnameinfo", NULL, getnameinfo_call, NULL, 0, BY_FILE, 0 },
    { "gethostbyname getnetbyname getprotobyname getservbyname getpwnam getgrnam getspnam getsgnam "
      "getaliasbyname "
      "getrpcbyname",
      NULL, by_name_call, NULL, 0, BY_FILE, 0 },
    { "getprotobynumber getservbyport getpwuid getgrgid getrpcbynumber", NULL, by_number_call, NULL,
      0, BY_FILE, 0 },
    { "gethostbyname2", NULL, gethostbyname2_call, NULL, 0, BY_FILE, 0 },
    { "gethostbyaddr", NULL, gethostbyaddr_call, NULL, 0, BY_FILE, 0 },
    { "gethostbyname_r getnetbyname_r", NULL, host_r_call, NULL, 0, BY_FILE, 0 },
    { "gethostbyname2_r", NULL, host2_r_call, NULL, 0, BY_FILE, 0 },
    { "gethostbyaddr_r", NULL, addr_r_call, NULL, 0, BY_FILE, 0 },
    { "getnetbyaddr", NULL, netaddr_call, NULL, 0, BY_FILE, 0 },
    { "getnetbyaddr_r", NULL, netaddr_r_call, NULL, 0, BY_FILE, 0 },
    { "getpwnam_r getgrnam_r getspnam_r getsgnam_r getprotobyname_r getaliasbyname_r "
      "getrpcbyname_r",
      NULL, name_r_call, NULL, 0, BY_FILE, 0 },
    { "getpwuid_r getgrgid_r getprotobynumber_r getrpcbynumber_r", NULL, number_r_call, NULL, 0,
      BY_FILE, 0 },
    { "getservbyname_r", NULL, service_r_call, NULL, 0, BY_FILE, 0 },
    { "getservbyport_r", NULL, port_r_call, NULL, 0, BY_FILE, 0 },
    { "getgrouplist", NULL, getgrouplist_call, NULL, 0, BY_FILE, 0 },
    { "innetgr", NULL, innetgr_call, NULL, 0, BY_FILE, 0 },
    { "ether_ntohost", NULL, ether_call, NULL, 0, BY_FILE, 0 },
    { "ether_hostton", NULL, ether_host_call, NULL, 0, BY_FILE, 0 },
    { "getlogin", NULL, getlogin_call, NULL, 0, BY_FILE, 0 },
    { "getlogin_r __getlogin_r_chk", NULL, getlogin_r_call, NULL, 0, BY_FILE, 0 },
    { "getpass", NULL, getpass_call, NULL, 0, BY_FILE, 0 },
    { "wordexp", NULL, wordexp_call, NULL, 0, BY_FILE, 0 },
    { "gethostid", NULL, gethostid_call, NULL, 0, BY_FILE, 0 },
    { "gethostent getnetent getprotoent getservent getpwent getgrent getspent getsgent getrpcent "
      "getaliasent",
      NULL, ent_call, NULL, 0, BY_FILE, 0 },
    { "setpwent setgrent setspent setsgent setrpcent setaliasent", NULL, ent_call, NULL, 0, BY_FILE,
      0 },
    { "gethostent_r getnetent_r", NULL, ent2_r_call, NULL, 0, BY_FILE, 0 },
    { "getprotoent_r getservent_r getpwent_r getgrent_r getspent_r getsgent_r getrpcent_r "
      "getaliasent_r",
      NULL, ent_r_call, NULL, 0, BY_FILE, 0 },
    { "sethostent setnetent setprotoent setservent", NULL, ent_call, NULL, 0, BY_FILE, 0 },
    { "vsyslog", NULL, vsyslog_call, NULL, 0, { SYS_socket }, 0 },
    { "__vsyslog_chk", NULL, vsyslog_chk_call, NULL, 0, { SYS_socket }, 0 },
    { "syslog", NULL, syslog_call, NULL, 0, { SYS_socket }, 0 },
    { "__syslog_chk", NULL, syslog_chk_call, NULL, 0, { SYS_socket }, 0 },
    { "openlog", NULL, openlog_call, NULL, 0, { SYS_socket }, 0 },
    { "res_query __res_query res_search __res_search",
      NULL,
      res_query_call,
      NULL,
      0,
      { SYS_socket },
      0 },
    { "res_querydomain __res_querydomain", NULL, res_querydomain_call, NULL, 0, { SYS_socket }, 0 },
    { "res_send __res_send", NULL, res_send_call, NULL, 0, { SYS_socket }, 0 },
    { "res_nquery __res_nquery res_nsearch __res_nsearch",
      share_state,
      res_nquery_call,
      NULL,
      0,
      { SYS_socket },
      0 },
    { "res_nquerydomain __res_nquerydomain",
      share_state,
      res_nquerydomain_call,
      NULL,
      0,
      { SYS_socket },
      0 },
    { "res_nsend __res_nsend", share_state, res_nsend_call, NULL, 0, { SYS_socket }, 0 },
    { "mq_open __mq_open_2", NULL, mq_open_call, NULL, 0, { SYS_mq_open }, 0 },
    { "mq_unlink", NULL, unlink_name_call, NULL, 0, { SYS_mq_unlink }, 0 },
    { "shm_unlink sem_unlink", NULL, unlink_name_call, NULL, 0, { SYS_unlink }, 0 },
    { "shm_open", NULL, shm_open_call, NULL, 0, BY_FILE, 0 },
    { "tcdrain", open_terminal, tcdrain_call, NULL, 0, { SYS_ioctl }, 0 },
    { "tcsendbreak", open_terminal, tcsendbreak_call, NULL, 0, { SYS_ioctl }, 0 },
    { "tcsetattr", open_terminal, tcsetattr_call, NULL, 0, { SYS_ioctl }, 0 },
};
