// SPDX-License-Identifier: MIT
// Three fibers that sleep by a plain sleep(3): one second with the shim, three without.
#include <iostream>
#include <unistd.h>

#include "aioshim_round_robin.hpp"

static void work(const char *name)
{
    std::cout << name << " sleeps" << std::endl;
    sleep(1);
    std::cout << name << " is awake" << std::endl;
}

int main()
{
    boost::fibers::use_scheduling_algorithm<aioshim_round_robin>();
    boost::fibers::fiber first(work, "first"), second(work, "second"), third(work, "third");
    first.join();
    second.join();
    third.join();
}
