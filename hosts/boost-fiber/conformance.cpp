// SPDX-License-Identifier: MIT
// The conformance test on Boost.Fiber.
#include <boost/fiber/all.hpp>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#ifndef WITHOUT_HEADER
#include "aioshim_round_robin.hpp"
#endif
#include "conformance.h"

// Each fiber throws, waits in the handler, and rethrows what it caught.
static void exceptions(int number)
{
    try {
        try {
            conformance_wait();
            throw std::runtime_error(std::to_string(number));
        } catch (...) {
            conformance_wait();
            throw;
        }
    } catch (const std::runtime_error &caught) {
        conformance_wait();
        conformance_result(number, std::stoul(caught.what()) + 1);
    }
}

// Plain waits beside timers of Boost.Fiber.
static void timers(int number)
{
    do {
        if (number % 2)
            conformance_wait();
        else
            boost::this_fiber::sleep_for(std::chrono::milliseconds(1));
    } while (conformance_timers(number));
}

static void (*body_of(const char *check))(int)
{
    if (std::strcmp(check, "exceptions") == 0)
        return exceptions;
    return std::strcmp(check, "timers") == 0 ? timers : conformance_body;
}

int main(int argc, char **argv)
{
    int count = conformance_begin(argc, argv);
#ifndef WITHOUT_HEADER
    boost::fibers::use_scheduling_algorithm<aioshim_round_robin>();
#endif
    auto body = body_of(argv[1]);
    std::vector<boost::fibers::fiber> fibers;
    for (int i = 0; i < count; i++)
        fibers.emplace_back(body, i);
    for (auto &fiber : fibers)
        fiber.join();
    return conformance_end();
}
