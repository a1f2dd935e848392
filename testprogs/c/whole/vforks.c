/* SPDX-License-Identifier: MIT */
/* vforks.c - vfork, fork, daemon, setrlimit, closing everything: the remaining process continues to
 * work. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    int status, ends[2];
    for (volatile int i = 0; i < 5; i++) {
        pid_t pid = vfork();
        if (pid == 0) {
            if (i % 2)
                _exit(i);
            execl("/bin/sh", "sh", "-c", "exit 9", (char *)NULL);
            _exit(127);
        }
        waitpid(pid, &status, 0);
        printf("vfork: %d\n", WEXITSTATUS(status));
    }
    fflush(stdout);
    struct rlimit few = { 16, 16 };
    setrlimit(RLIMIT_NOFILE, &few);
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
    closefrom(3);
    if (pipe(ends))
        return 1;
    printf("%d %d\n", ends[0], ends[1]);
    fflush(stdout);
    if (fork() == 0) {
        /* A daemon, whose output arrives through the pipe. */
        close(ends[0]);
        if (daemon(1, 1))
            return 1;
        usleep(2000);
        dprintf(ends[1], "from the daemon\n");
        return 0;
    }
    close(ends[1]);
    char line[64];
    FILE *stream = fdopen(ends[0], "r");
    while (fgets(line, sizeof line, stream))
        fputs(line, stdout);
    printf("%d\n", wait(&status) > 0 ? WEXITSTATUS(status) : -1);
    stream = popen("read x; echo got $x >&2; exit 3", "w");
    fputs("word\n", stream);
    printf("pclose: %d\n", WEXITSTATUS(pclose(stream)));
    return 0;
}
