/* SPDX-License-Identifier: MIT */
/* wait.c - wait, waitpid, wait3, wait4, waitid and system with every kind of child, while other
 * tasks run. */
#define _GNU_SOURCE
#include "probe.h"

#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { MANY = 40 };

/* P_PIDFD, which the headers of glibc 2.31 do not have. */
#define BY_PIDFD ((idtype_t)3)

static int gate[2];

/* Starts a child that ends with status after a byte has arrived through the gate. */
static pid_t child_behind_gate(int status)
{
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        char byte;
        _exit(read(gate[0], &byte, 1) == 1 ? status : 99);
    }
    return pid;
}

static void *open_gate(void *arg)
{
    if (write(gate[1], "g", 1) != 1)
        die("write");
    return arg;
}

static void show_status(const char *what, pid_t expected, pid_t found, int status)
{
    if (found < 0)
        printf("%s: %s\n", what, strerror(errno));
    else if (WIFEXITED(status))
        printf("%s: %s, exit %d\n", what, found == expected ? "it" : "another",
               WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        printf("%s: %s, signal %d\n", what, found == expected ? "it" : "another", WTERMSIG(status));
    else if (WIFSTOPPED(status))
        printf("%s: %s, stopped by %d\n", what, found == expected ? "it" : "another",
               WSTOPSIG(status));
    else
        printf("%s: %s, continued %d\n", what, found == expected ? "it" : "another",
               WIFCONTINUED(status));
}

#define SHOW_STATUS(what, pid, call)               \
    do {                                           \
        pid_t status_of = (call);                  \
        show_status(what, pid, status_of, status); \
    } while (0)

/* The wait begins before the child can end, because another task opens the gate; that task runs
 * only if this one does not block it. */
#define AWAIT(what, status_given, call)              \
    do {                                             \
        pid_t pid = child_behind_gate(status_given); \
        task_t opener = task_spawn(open_gate, NULL); \
        int status = 0;                              \
        pid_t found = (call);                        \
        show_status(what, pid, found, status);       \
        task_join(opener);                           \
    } while (0)

static void ends(void)
{
    struct rusage usage;
    AWAIT("waitpid", 1, waitpid(pid, &status, 0));
    AWAIT("waitpid(-1)", 2, waitpid(-1, &status, 0));
    AWAIT("waitpid(0)", 3, waitpid(0, &status, 0));
    AWAIT("waitpid(-group)", 4, waitpid(-getpgrp(), &status, 0));
    AWAIT("wait", 5, wait(&status));
    AWAIT("wait3", 6, wait3(&status, 0, &usage));
    AWAIT("wait4", 7, wait4(pid, &status, 0, &usage));
    AWAIT("no status", 0, waitpid(pid, NULL, 0));
    AWAIT("__WALL", 8, waitpid(pid, &status, __WALL));
    printf("usage: %d\n", usage.ru_maxrss > 0);
    siginfo_t info;
    pid_t pid = child_behind_gate(9);
    task_t opener = task_spawn(open_gate, NULL);
    SHOW(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
    printf("%d %d %d %d\n", info.si_pid == pid, info.si_status, info.si_code == CLD_EXITED,
           info.si_signo == SIGCHLD);
    task_join(opener);
    SHOW(waitid(P_ALL, 0, &info, WEXITED));
    printf("%d %d\n", info.si_pid == pid, info.si_status);
    pid = child_behind_gate(10);
    int descriptor = (int)syscall(SYS_pidfd_open, pid, 0);
    opener = task_spawn(open_gate, NULL);
    SHOW(waitid(BY_PIDFD, (id_t)descriptor, &info, WEXITED));
    printf("%d %d\n", info.si_pid == pid, info.si_status);
    task_join(opener);
    close(descriptor);
}

static void errors(void)
{
    int status;
    siginfo_t info;
    SHOW(waitpid(-1, &status, 0));
    SHOW(wait(&status));
    SHOW(waitpid(getpid(), &status, 0));
    SHOW(waitpid(-1, &status, WNOHANG));
    SHOW(waitpid(-1, &status, 0x4000));
    SHOW(waitpid(INT32_MIN, &status, 0));
    SHOW(waitid(P_ALL, 0, &info, 0));
    SHOW(waitid(P_ALL, 0, &info, WEXITED));
    SHOW(waitid(99, 0, &info, WEXITED));
    SHOW(waitid(BY_PIDFD, 12345, &info, WEXITED));
    pid_t pid = child_behind_gate(3);
    memset(&info, 0xff, sizeof info);
    SHOW(waitpid(pid, &status, WNOHANG));
    SHOW(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG));
    SHOW(info.si_pid);
    open_gate(NULL);
    SHOW_STATUS("then", pid, waitpid(pid, &status, 0));
}

static void *send(void *arg)
{
    pid_t pid = *(pid_t *)arg;
    kill(pid, SIGSTOP);
    return arg;
}

static void *go_on(void *arg)
{
    kill(*(pid_t *)arg, SIGCONT);
    return arg;
}

static void *end(void *arg)
{
    kill(*(pid_t *)arg, SIGKILL);
    return arg;
}

static void stops(void)
{
    int status;
    pid_t pid = child_behind_gate(1);
    task_t other = task_spawn(send, &pid);
    SHOW_STATUS("WUNTRACED", pid, waitpid(pid, &status, WUNTRACED));
    task_join(other);
    other = task_spawn(go_on, &pid);
    SHOW_STATUS("WCONTINUED", pid, waitpid(-1, &status, WCONTINUED));
    task_join(other);
    other = task_spawn(end, &pid);
    SHOW_STATUS("at last", pid, waitpid(pid, &status, WUNTRACED | WCONTINUED));
    task_join(other);
}

/* With SIGCHLD ignored, no status of a child remains, and a wait for one child waits for all
 * children. */
static void ignored(void)
{
    int status;
    signal(SIGCHLD, SIG_IGN);
    pid_t pid = child_behind_gate(1);
    task_t opener = task_spawn(open_gate, NULL);
    SHOW(waitpid(pid, &status, 0));
    task_join(opener);
    pid = child_behind_gate(1);
    opener = task_spawn(open_gate, NULL);
    SHOW(wait(&status));
    task_join(opener);
    SHOW(system("exit 3"));
    signal(SIGCHLD, SIG_DFL);
}

static void *wait_for_mine(void *arg)
{
    pid_t pid = child_behind_gate(42);
    int status;
    if (waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != 42)
        die("waitpid");
    return arg;
}

static void many(void)
{
    task_t waiters[MANY];
    for (int i = 0; i < MANY; i++)
        waiters[i] = task_spawn(wait_for_mine, NULL);
    task_t opener = task_spawn(open_gate, NULL);
    task_join(opener);
    for (int i = 1; i < MANY; i++)
        open_gate(NULL);
    for (int i = 0; i < MANY; i++)
        task_join(waiters[i]);
    printf("%d children\n", MANY);
}

static void *fill_fifo(void *arg)
{
    int fd = open("fifo", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "through\n", 8) != 8 || close(fd))
        die("fifo");
    return arg;
}

static void shells(void)
{
    struct sigaction action;
    fflush(stdout);
    SHOW(system("exit 3"));
    SHOW(system("kill -9 $$"));
    SHOW(system(NULL) != 0);
    SHOW(system("/no/such/program 2>/dev/null"));
    /* The shell can end only after another task has run. */
    task_t filler = task_spawn(fill_fifo, NULL);
    SHOW(system("read line < fifo; test \"$line\" = through"));
    task_join(filler);
    sigset_t now;
    if (sigprocmask(SIG_BLOCK, NULL, &now) || sigaction(SIGINT, NULL, &action))
        die("signals");
    printf("SIGCHLD blocked: %d, SIGINT default: %d\n", sigismember(&now, SIGCHLD),
           action.sa_handler == SIG_DFL);
    /* Ignored in this process during the call, but not in the shell. */
    SHOW(system("kill -INT $PPID; kill -INT $$"));
}

static void spawned(void)
{
    char *arguments[] = { "sh", "-c", "exit 6", NULL };
    pid_t pid;
    int status;
    SHOW(posix_spawn(&pid, "/bin/sh", NULL, NULL, arguments, NULL));
    SHOW_STATUS("spawned", pid, waitpid(pid, &status, 0));
    SHOW(posix_spawn(&pid, "/no/such/program", NULL, NULL, arguments, NULL));
    FILE *stream = popen("echo hello; exit 5", "r");
    char line[16] = "";
    if (!stream || !fgets(line, sizeof line, stream))
        die("popen");
    printf("%s", line);
    SHOW(pclose(stream));
}

static void probe(void)
{
    if (pipe2(gate, O_CLOEXEC) || mkfifo("fifo", 0600))
        die("setup");
    ends();
    errors();
    stops();
    ignored();
    many();
    shells();
    spawned();
}
