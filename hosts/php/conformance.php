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

$count = Checks\begin(...array_slice($argv, 1));
$body = $argv[1] === 'exceptions' ? 'exceptions' : 'Checks\body';
for ($number = 0; $number < $count; $number++) {
    AIOShim\spawn($body, $number);
}
AIOShim\run();
exit(Checks\finish());
