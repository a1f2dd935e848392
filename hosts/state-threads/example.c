/* SPDX-License-Identifier: MIT */
/* Three threads that sleep by a plain sleep(3): one second with the preloads, three without. */
#include <st.h>
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
    st_thread_t threads[3];
    st_init();
    for (int i = 0; i < 3; i++)
        threads[i] = st_thread_create(work, names[i], 1, 0);
    for (int i = 0; i < 3; i++)
        st_thread_join(threads[i], NULL);
    return 0;
}
