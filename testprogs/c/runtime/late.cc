/* SPDX-License-Identifier: MIT */
/* late - a library in C++, which a program in C loads late and by itself: it waits while it handles an exception. */

/* Throws number, calls wait(arg) while it is handled, throws it on, and returns what comes. */
extern "C" long catch_and_wait(long number, void (*wait)(void *), void *arg)
{
    try {
        try {
            throw number;
        } catch (long &) {
            wait(arg);
            throw;
        }
    } catch (long &caught) {
        return caught;
    }
}
