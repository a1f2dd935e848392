/* SPDX-License-Identifier: MIT */
/* alarmjump.c - the handler of an alarm repeatedly jumps out of a read, as programs do to limit a
 * wait. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <unistd.h>

static sigjmp_buf back;

static void jump(int signal) { siglongjmp(back, signal); }

int main(void)
{
    struct itimerval soon = { { 0, 0 }, { 0, 5000 } };
    int ends[2];
    char byte;
    if (pipe(ends))
        return 1;
    signal(SIGALRM, jump);
    for (volatile int i = 0; i < 10; i++) {
        if (sigsetjmp(back, 1) == 0) {
            setitimer(ITIMER_REAL, &soon, NULL);
            printf("read: %zd\n", read(ends[0], &byte, 1));
        } else {
            printf("jump %d\n", i);
        }
    }
    if (write(ends[1], "x", 1) != 1 || read(ends[0], &byte, 1) != 1)
        return 1;
    printf("nothing was taken: %c\n", byte);
    return 3;
}
