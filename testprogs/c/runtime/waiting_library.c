/* SPDX-License-Identifier: MIT */
/* waiting_library - a library whose constructor and destructor look up names, run a command, open a
 * file with a conversion that libc loads as a library, and wait for another task. */
#define _GNU_SOURCE
#include <netdb.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void look_up(const char *when)
{
    struct addrinfo *found = NULL;
    struct stat about;
    char text[16];
    FILE *command = popen("echo said", "r");
    int user = getpwnam("root") != NULL, name = getaddrinfo("127.0.0.1", "80", NULL, &found);
    int file = stat("/etc/passwd", &about), said = fgets(text, sizeof text, command) != NULL,
        ended = pclose(command);
    FILE *converted = fopen("/etc/passwd", "r,ccs=UTF-16");
    printf("%s: user %d, name %d, file %d, said %d, ended %d, converted %d\n", when, user, name,
           file, said, ended, converted != NULL);
    if (converted)
        fclose(converted);
    if (found)
        freeaddrinfo(found);
}

__attribute__((constructor)) static void begins(void)
{
    const char *gate = getenv("GATE");
    char c;
    look_up("constructor");
    if (gate && read(atoi(gate), &c, 1) == 1)
        puts("constructor: let through");
}

__attribute__((destructor)) static void ends(void)
{
    if (getenv("GATE"))
        look_up("destructor");
}
