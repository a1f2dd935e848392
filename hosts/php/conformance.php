<?php
// SPDX-License-Identifier: MIT
// The conformance test on PHP's fibers.

// Each function throws, waits in the handler, and throws again what it caught.
function exceptions(int $number): void
{
    try {
        try {
            usleep(1000);
            throw new RuntimeException((string) $number);
        } catch (RuntimeException $caught) {
            usleep(1000);
            throw $caught;
        }
    } catch (RuntimeException $caught) {
        usleep(1000);
        Checks\result($number, (int) $caught->getMessage() + 1);
    }
}

// A child that ends as PHP programs do, while other fibers wait, ends with its own status.
function forks(int $number): void
{
    if ($number === 0 && function_exists('pcntl_fork')) {
        usleep(1000);
        $child = pcntl_fork();
        if ($child === 0) {
            exit(7);
        }
        pcntl_waitpid($child, $status);
        if (!pcntl_wifexited($status) || pcntl_wexitstatus($status) !== 7) {
            fwrite(STDERR, "a child of PHP ended with the status $status\n");
            exit(1);
        }
    }
    Checks\body($number);
}

$count = Checks\begin(...array_slice($argv, 1));
$body = in_array($argv[1], ['exceptions', 'forks']) ? $argv[1] : 'Checks\body';
for ($number = 0; $number < $count; $number++) {
    AIOShim\spawn($body, $number);
}
AIOShim\run();
exit(Checks\finish());
