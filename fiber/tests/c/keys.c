/* SPDX-License-Identifier: MIT */
/* Fiber-local storage: values per fiber, destructors and reused keys. fiber_exit runs destructors
 * too. */
#include "expect.h"

static fiber_key_t a, b, late;
static int ran_a, ran_b, rounds;

static void drop_a(void *value)
{
    ran_a += *(int *)value;
    CHECK(fiber_getspecific(a) == NULL);
    fiber_yield();
}
static void drop_b(void *value) { ran_b += *(int *)value; }
static void again(void *value)
{
    rounds++;
    IS(fiber_setspecific(late, value), 0);
}

static void *set_and_end(void *value)
{
    CHECK(fiber_getspecific(a) == NULL);
    IS(fiber_setspecific(a, value), 0);
    IS(fiber_setspecific(b, value), 0);
    fiber_yield();
    CHECK(fiber_getspecific(a) == value);
    IS(fiber_setspecific(b, NULL), 0);
    return NULL;
}

static void *set_and_exit(void *value)
{
    IS(fiber_setspecific(a, value), 0);
    fiber_exit(value);
    CHECK(0);
    return NULL;
}

static void *set_late(void *value)
{
    IS(fiber_setspecific(late, value), 0);
    return NULL;
}

static void *all(void *arg)
{
    int one = 1, ten = 10;
    fiber_t *f, *g;
    void *ret;
    fiber_key_t keys[FIBER_KEYS_MAX], extra;
    int n = 0;

    IS(fiber_key_create(&a, drop_a), 0);
    IS(fiber_key_create(&b, drop_b), 0);
    IS(fiber_create(&f, NULL, set_and_end, &one), 0);
    IS(fiber_create(&g, NULL, set_and_end, &ten), 0);
    IS(fiber_join(f, NULL), 0);
    IS(fiber_join(g, NULL), 0);
    IS(ran_a, 11);
    IS(ran_b, 0);
    IS(fiber_create(&f, NULL, set_and_exit, &one), 0);
    IS(fiber_join(f, &ret), 0);
    CHECK(ret == &one);
    IS(ran_a, 12);

    IS(fiber_key_create(&late, again), 0);
    IS(fiber_create(&f, NULL, set_late, &one), 0);
    IS(fiber_join(f, NULL), 0);
    IS(rounds, FIBER_DESTRUCTOR_ITERATIONS);

    IS(fiber_setspecific(a, &one), 0);
    IS(fiber_key_delete(a), 0);
    IS(fiber_setspecific(a, &one), EINVAL);
    IS(fiber_key_create(&a, NULL), 0); /* reuses the number: the old value must not be visible */
    CHECK(fiber_getspecific(a) == NULL);

    while (n < FIBER_KEYS_MAX && fiber_key_create(&keys[n], NULL) == 0)
        n++;
    IS(n, FIBER_KEYS_MAX - 3);
    IS(fiber_key_create(&extra, NULL), EAGAIN);
    IS(fiber_setspecific(FIBER_KEYS_MAX, &one), EINVAL);
    CHECK(fiber_getspecific(FIBER_KEYS_MAX) == NULL);
    IS(fiber_setspecific(keys[n - 1], &ten), 0);
    CHECK(fiber_getspecific(keys[n - 1]) == &ten);
    while (n--)
        IS(fiber_key_delete(keys[n]), 0);
    return arg;
}

int main(void) { return run(all); }
