/* SPDX-License-Identifier: MIT */
/* Three threads that sleep by a plain sleep(3): one second with the preloads, three without. */
#include <pth.h>
#include <stdio.h>
#include <unistd.h>

static void *work(void *name)
{
    printf("%s sleeps\n", (char *)name);
    sleep(1);
    printf("%s is awake\n", (char *)name);
    return NULL;
}

int main(void)
{
    char *names[] = { "first", "second", "third" };
    pth_t threads[3];
    pth_init();
    for (int i = 0; i < 3; i++)
        threads[i] = pth_spawn(PTH_ATTR_DEFAULT, work, names[i]);
    for (int i = 0; i < 3; i++)
        pth_join(threads[i], NULL);
    return 0;
}
