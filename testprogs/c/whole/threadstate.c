/* SPDX-License-Identifier: MIT */
/* threadstate.c - a thread changes its namespaces, credentials or filters after helper threads of
 * the shim have started: its later calls are made in the new state, and libc finds no thread with a
 * different state. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <pwd.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOBODY = 65534 };

#define SHOW(call)                                                           \
    do {                                                                     \
        errno = 0;                                                           \
        long result_ = (long)(call);                                         \
        printf("  %s: %s\n", #call, result_ < 0 ? strerror(errno) : "done"); \
    } while (0)

static int make(const char *name, const char *text, mode_t mode)
{
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fchmod(fd, mode))
        return -1;
    return fd;
}

/* Opens, and closes again. */
static int can_open(const char *name)
{
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -1 : close(fd);
}

static int command(const char *line)
{
    char text[256];
    FILE *out = popen(line, "r");
    if (!out)
        return -1;
    while (fgets(text, sizeof text, out))
        printf("  %s", text);
    return pclose(out);
}

static void keeps_capabilities(void)
{
    SHOW(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
    SHOW(setresuid(NOBODY, NOBODY, NOBODY));
    struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
    unsigned both = 1u << CAP_SETUID | 1u << CAP_SETGID;
    struct __user_cap_data_struct data[2] = { { both, both, 0 }, { 0, 0, 0 } };
    SHOW(syscall(SYS_capset, &head, data));
    SHOW(setresgid(NOBODY, NOBODY, NOBODY));
    SHOW(setgroups(0, NULL));
    SHOW(can_open("secret"));
}

static void drops_capabilities(void)
{
    struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct none[2] = { { 0, 0, 0 }, { 0, 0, 0 } };
    SHOW(chown("secret", NOBODY, NOBODY));
    SHOW(syscall(SYS_capset, &head, none));
    SHOW(can_open("secret"));
    SHOW(chown("public", NOBODY, NOBODY));
}

static void acts_for_another(void)
{
    struct stat about;
    SHOW(setfsuid(NOBODY) * 0);
    SHOW(can_open("secret"));
    SHOW(stat("private/file", &about));
    SHOW(make("open/file", "x", 0644));
    SHOW(stat("open/file", &about));
    printf("  owner %u\n", about.st_uid);
    SHOW(setfsuid(0) * 0);
    SHOW(can_open("secret"));
}

static void becomes_another_by_number(void)
{
    SHOW(syscall(SYS_setresuid, NOBODY, NOBODY, NOBODY));
    SHOW(can_open("secret"));
    SHOW(make("open/file", "x", 0644));
}

static void has_its_own_directory(void)
{
    struct stat about;
    SHOW(unshare(CLONE_FS));
    SHOW(chdir("open"));
    SHOW(can_open("../public"));
    SHOW(stat("../public", &about));
    umask(077);
    int fd = open("masked", O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    SHOW(fstat(fd, &about));
    printf("  mode %o\n", about.st_mode & 0777);
}

static void has_its_own_descriptors(void)
{
    char text[4] = "";
    int first = make("first", "old", 0600), second = make("second", "new", 0600);
    SHOW(fsync(first));
    SHOW(unshare(CLONE_FILES));
    SHOW(dup2(second, first));
    SHOW(pread(first, text, 3, 0));
    printf("  %s\n", text);
    SHOW(fsync(first));
    int high = dup2(second, 200);
    SHOW(fsync(high));
    SHOW(syncfs(high));
    SHOW(posix_fallocate(high, 0, 4096));
    SHOW(close(high));
    SHOW(fsync(high));
}

static void has_its_own_mounts(void)
{
    SHOW(unshare(CLONE_NEWNS));
    SHOW(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    make("passwd", "someone:x:4711:4711::/:/bin/sh\n", 0644);
    SHOW(mount("passwd", "/etc/passwd", NULL, MS_BIND, NULL));
    printf("  %s, %s\n", getpwnam("someone") ? "found" : "not found",
           getpwnam("root") ? "found" : "not found");
    char text[8] = "";
    int fd = open("/etc/passwd", O_RDONLY);
    SHOW(read(fd, text, 7));
    printf("  %s\n", text);
}

static void has_its_own_users(void)
{
    SHOW(unshare(CLONE_NEWUSER));
    SHOW(can_open("public"));
}

static void gains_nothing(void)
{
    SHOW(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SHOW(command("grep NoNewPrivs /proc/self/status"));
    SHOW(system("grep -q 'NoNewPrivs:.1' /proc/self/status"));
}

static void is_refused_a_call(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mkdirat, 1, 0),
#ifdef SYS_mkdir
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mkdir, 0, 1),
#else
        BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0),
#endif
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EUCLEAN),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = { sizeof code / sizeof *code, code };
    SHOW(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SHOW(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter));
    for (int i = 0; i < 50; i++)
        if (mkdir("new", 0700) == 0 || errno != EUCLEAN)
            printf("  mkdir was made without the filter\n");
    SHOW(can_open("public"));
    SHOW(command("mkdir other || echo refused"));
}

static void has_a_ruleset(void)
{
    struct landlock_ruleset_attr about = { .handled_access_fs = LANDLOCK_ACCESS_FS_READ_FILE };
    int rules = (int)syscall(SYS_landlock_create_ruleset, &about, sizeof about, 0);
    if (rules < 0) {
        printf("  no landlock\n");
        return;
    }
    SHOW(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SHOW(syscall(SYS_landlock_restrict_self, rules, 0));
    SHOW(can_open("public"));
    printf("  %s\n", getpwnam("root") ? "found" : "not found");
}

static void is_nice(void)
{
    SHOW(nice(5));
    SHOW(command("nice"));
}

static void (*const changes[])(void) = {
    keeps_capabilities,    drops_capabilities,      acts_for_another,   becomes_another_by_number,
    has_its_own_directory, has_its_own_descriptors, has_its_own_mounts, has_its_own_users,
    gains_nothing,         is_refused_a_call,       has_a_ruleset,      is_nice,
};

int main(void)
{
    make("public", "p", 0644);
    make("secret", "s", 0000);
    mkdir("private", 0700);
    make("private/file", "f", 0644);
    mkdir("open", 0777);
    chmod("open", 0777);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        printf("%zu\n", i);
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            struct stat about;
            int fd = open("public", O_RDWR);
            /* Starts helper threads of every kind: for names, files and users. */
            if (!getpwnam("root") || stat("public", &about) || fsync(fd) || close(fd))
                _exit(1);
            changes[i]();
            unlink("open/file");
            unlink("open/masked");
            fflush(stdout);
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        printf("%s %d\n", WIFSIGNALED(status) ? "signal" : "exit",
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        chown("secret", 0, 0);
        chown("public", 0, 0);
    }
    return 0;
}
