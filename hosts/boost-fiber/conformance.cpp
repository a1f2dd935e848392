// SPDX-License-Identifier: MIT
// The conformance test on Boost.Fiber.
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "aioshim_round_robin.hpp"
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

int main(int argc, char **argv)
{
    int count = conformance_begin(argc, argv);
    boost::fibers::use_scheduling_algorithm<aioshim_round_robin>();
    auto body = std::strcmp(argv[1], "exceptions") == 0 ? exceptions : conformance_body;
    std::vector<boost::fibers::fiber> fibers;
    for (int i = 0; i < count; i++)
        fibers.emplace_back(body, i);
    for (auto &fiber : fibers)
        fiber.join();
    return conformance_end();
}
