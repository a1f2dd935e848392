<?php
// SPDX-License-Identifier: MIT
// A fatal error while another function is in the middle of a call: checks.c looks whether the call
// has ended when the request is over.

AIOShim\spawn(fn() => Checks\wait_for_child());
AIOShim\spawn(function () {
    usleep(10000);
    trigger_error('the end of the request', E_USER_ERROR);
});
AIOShim\run();
