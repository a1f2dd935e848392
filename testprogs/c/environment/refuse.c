/* SPDX-License-Identifier: MIT */
/* refuse.c - runs a program for which the kernel refuses io_uring, Linux AIO or prctl: a seccomp
 * filter makes these calls return an error. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char usage[] =
    "refuse CALL=ERROR... [-E NAME=VALUE...] PROGRAM [ARG...]\n"
    "  CALL   setup, enter, register (of io_uring), io_setup, io_submit (of Linux AIO), prctl;\n"
    "         contexts is io_setup for at least one operation, as if all contexts were in use\n"
    "  ERROR  EPERM, ENOSYS, ENOMEM, EINVAL, EAGAIN\n"
    "  -E     sets a variable for PROGRAM\n";

enum { MAX_RULES = 8 };

struct rule {
    unsigned call;
    unsigned error;
    int unless_zero; /* only if the first argument is not zero */
};

static int parse(const char *word, struct rule *rule)
{
    static const struct {
        const char *name;
        unsigned call;
        int unless_zero;
    } calls[] = {
        { "setup", SYS_io_uring_setup, 0 },
        { "enter", SYS_io_uring_enter, 0 },
        { "register", SYS_io_uring_register, 0 },
        { "io_setup", SYS_io_setup, 0 },
        { "contexts", SYS_io_setup, 1 },
        { "io_submit", SYS_io_submit, 0 },
        { "prctl", SYS_prctl, 0 },
    };
    static const struct {
        const char *name;
        unsigned error;
    } errors[] = {
        { "EPERM", EPERM },   { "ENOSYS", ENOSYS }, { "ENOMEM", ENOMEM },
        { "EINVAL", EINVAL }, { "EAGAIN", EAGAIN },
    };
    const char *equals = strchr(word, '=');
    if (!equals)
        return -1;
    rule->call = rule->error = 0;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (strlen(calls[i].name) == (size_t)(equals - word) &&
            !strncmp(calls[i].name, word, equals - word)) {
            rule->call = calls[i].call;
            rule->unless_zero = calls[i].unless_zero;
        }
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (!strcmp(errors[i].name, equals + 1))
            rule->error = errors[i].error;
    return rule->call && rule->error ? 0 : -1;
}

#define LOAD(field) \
    ((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field)))
#define SKIP(equal, different, value) \
    ((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, equal, different))
#define REFUSE(error) ((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error)))

/* The filter loads the number of the call. Each rule skips the rest of itself if the number, or the
 * first argument, is another one, and otherwise returns its error. At the end, every other call is
 * allowed. */
static int install(const struct rule *rules, int n)
{
    struct sock_filter code[5 * MAX_RULES + 2];
    unsigned short at = 0;
    code[at++] = LOAD(nr);
    for (int i = 0; i < n; i++) {
        code[at++] = SKIP(0, rules[i].unless_zero ? 4 : 1, rules[i].call);
        if (rules[i].unless_zero) {
            /* The lower half on a little-endian machine. */
            code[at++] = LOAD(args[0]);
            code[at++] = SKIP(1, 0, 0);
        }
        code[at++] = REFUSE(rules[i].error);
        if (rules[i].unless_zero)
            code[at++] = LOAD(nr);
    }
    code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog filter = { at, code };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

int main(int argc, char **argv)
{
    struct rule rules[MAX_RULES];
    int n = 0, at = 1;
    for (; at < argc && n < MAX_RULES && !parse(argv[at], &rules[n]); at++)
        n++;
    for (; at + 1 < argc && !strcmp(argv[at], "-E"); at += 2)
        if (putenv(argv[at + 1])) {
            perror(argv[at + 1]);
            return 1;
        }
    if (at >= argc || n == 0) {
        fputs(usage, stderr);
        return 1;
    }
    if (install(rules, n)) {
        perror("refuse: seccomp");
        return 77;
    }
    execvp(argv[at], argv + at);
    perror(argv[at]);
    return 127;
}
