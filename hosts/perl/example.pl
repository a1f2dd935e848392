# SPDX-License-Identifier: MIT
# Three coroutines that sleep by Perl's own sleep: one second with the shim, three without.
use strict;
use warnings;
use Coro;
use Coro::AIOShim;

$| = 1;

sub work {
    my ($name) = @_;
    print "$name sleeps\n";
    sleep 1;
    print "$name is awake\n";
}

my @coroutines = map { async(\&work, $_) } qw(first second third);
$_->join for @coroutines;
