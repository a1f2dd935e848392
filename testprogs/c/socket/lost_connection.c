/* SPDX-License-Identifier: MIT */
/* lost_connection.c - a process is about to accept a connection when another process, which traces
 * it, takes that connection from the listening socket that they share. The other fiber of the first
 * process must still answer, and the process gets the next connection. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "task.h"

static int listener, pair[2];

static void *serve(void *arg)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0 || write(fd, "s", 1) != 1)
        die("serve");
    return arg;
}

static void *serve_and_answer(void *arg)
{
    char byte;
    task_t server = task_spawn(serve, NULL);
    if (read(pair[1], &byte, 1) != 1 || write(pair[1], &byte, 1) != 1)
        die("answer");
    task_join(server);
    return arg;
}

static int client(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof *address))
        die("connect");
    return fd;
}

/* Lets the child run up to its first accept4. */
static void run_to_accept(pid_t child)
{
    struct __ptrace_syscall_info info = { 0 };
    int status;
    do {
        if (ptrace(PTRACE_SYSCALL, child, NULL, NULL) || waitpid(child, &status, 0) != child ||
            !WIFSTOPPED(status) || ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info) < 0)
            die("trace");
    } while (info.op != PTRACE_SYSCALL_INFO_ENTRY || info.entry.nr != SYS_accept4);
}

int main(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof address;
    char byte;
    int status;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, len) ||
        getsockname(listener, (struct sockaddr *)&address, &len) || listen(listener, 5) ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        die("sockets");
    pid_t child = fork();
    if (!child) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
            _exit(77);
        raise(SIGSTOP);
        task_run(serve_and_answer, NULL);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        die("fork");
    if (!WIFSTOPPED(status)) {
        fputs("no process may be traced here\n", stderr);
        return 77;
    }
    if (ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_TRACESYSGOOD))
        die("trace");
    client(&address);
    run_to_accept(child);
    puts(accept4(listener, NULL, NULL, SOCK_CLOEXEC) >= 0 ? "taken" : "not taken");
    if (ptrace(PTRACE_DETACH, child, NULL, NULL))
        die("detach");
    int answered = write(pair[0], "a", 1) == 1 && read(pair[0], &byte, 1) == 1;
    puts(answered ? "answered" : "not answered");
    int other = client(&address), served = read(other, &byte, 1) == 1;
    puts(served ? "served" : "not served");
    if (waitpid(child, &status, 0) != child || status)
        die("the child");
    return 0;
}
