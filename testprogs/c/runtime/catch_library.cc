/* SPDX-License-Identifier: MIT */
/* catch_library - a C++ library that a C program loads late: it waits while it handles an
 * exception. */

/* Throws number, calls wait(arg) in the catch block, rethrows it, and returns the caught number. */
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
