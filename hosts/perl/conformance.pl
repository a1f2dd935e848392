# SPDX-License-Identifier: MIT
# The conformance test on Coro. Perl finds the modules through PERL5LIB.
use strict;
use warnings;
use Coro;
use Coro::AIOShim;
use Time::HiRes;
use XSLoader;

XSLoader::load("Checks");

# Each coroutine dies, waits in the handler, and dies again of what it caught.
sub exceptions {
    my ($number) = @_;
    eval {
        eval { Time::HiRes::sleep(0.001); die { number => $number } };
        my $caught = $@;
        Time::HiRes::sleep(0.001);
        die $caught;
    };
    my $caught = $@;
    Time::HiRes::sleep(0.001);
    Checks::result($number, $caught->{number} + 1);
}

# Plain waits beside those of the event loop.
sub timers {
    my ($number) = @_;
    do {
        $number % 2 ? Time::HiRes::sleep(0.001) : Coro::AnyEvent::sleep(0.001);
    } while (Checks::timers($number));
}

require Coro::AnyEvent if $ARGV[0] eq "timers";
my %bodies = (exceptions => \&exceptions, timers => \&timers);
my $overlap = grep { $_ eq "overlap" } @ARGV;
die "attached" if $Coro::AIOShim::ATTACHED != $overlap;
my $count = Checks::begin(@ARGV);
my $body = $bodies{$ARGV[0]} || \&Checks::body;
my @coroutines = map { my $number = $_; async { $body->($number) } } 0 .. $count - 1;
$_->join for @coroutines;
exit Checks::finish();
