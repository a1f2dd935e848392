<?php
// SPDX-License-Identifier: MIT
// Three functions that sleep by PHP's own sleep: one second with the shim, three without.

function work(string $name): void
{
    echo "$name sleeps\n";
    sleep(1);
    echo "$name is awake\n";
}

foreach (['first', 'second', 'third'] as $name) {
    AIOShim\spawn('work', $name);
}
AIOShim\run();
