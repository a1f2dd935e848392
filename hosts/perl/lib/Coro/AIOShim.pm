# SPDX-License-Identifier: MIT
# The plain blocking calls of Coro's coroutines become asynchronous operations:
#
#   use Coro;
#   use Coro::AIOShim;
#
# Without libaioshim.so nothing changes.
package Coro::AIOShim;
use strict;
use warnings;
use Coro;
use XSLoader;

our $VERSION = "0.1";
our $ATTACHED;

XSLoader::load(__PACKAGE__, $VERSION);

sub import {
    return if defined $ATTACHED;
    $ATTACHED = attach() ? 1 : 0;
    return unless $ATTACHED;
    my $pump = async { run_pump() };
    $pump->desc("aioshim");
}

INIT { begin() }
END  { end() }

1;
