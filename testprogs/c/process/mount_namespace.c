/* SPDX-License-Identifier: MIT */
/* mount_namespace.c - a task looks up a user, moves to a mount namespace with another /etc/passwd,
 * and looks up a user that exists only there: pool threads must do the second look-up in the new
 * namespace. Exits with 77 if the namespace cannot be created. */
#define _GNU_SOURCE
#include "background_task.h"

#include <pwd.h>
#include <sched.h>
#include <sys/mount.h>

static void look_up(const char *name)
{
    struct passwd *user = getpwnam(name);
    printf("%s: %d\n", name, user ? (int)user->pw_uid : -1);
}

static void probe(void)
{
    static const char line[] = "onlyhere:x:4242:4242::/:/bin/sh\n";
    int fd = open("passwd", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        die("passwd");
    write_full(fd, line, sizeof line - 1);
    close(fd);
    background_begin();
    look_up("root");
    look_up("onlyhere");
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("passwd", "/etc/passwd", NULL, MS_BIND, NULL)) {
        fprintf(stderr, "no mount namespace: %s\n", strerror(errno));
        exit(EXIT_SKIP);
    }
    look_up("root");
    look_up("onlyhere");
    background_end();
}
