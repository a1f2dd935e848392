/* SPDX-License-Identifier: MIT */
/* The conformance test as a Perl module: conformance.pl calls it. */
#define PERL_NO_GET_CONTEXT
#include <EXTERN.h>
#include <perl.h>

#include <XSUB.h>

#include "conformance.h"

XS_INTERNAL(begin)
{
    dXSARGS;
    char *words[8] = { "conformance" };
    for (int i = 0; i < items && i < 7; i++)
        words[i + 1] = SvPV_nolen(ST(i));
    int count = conformance_begin(items + 1, words);
    XSRETURN_IV(count);
}

XS_INTERNAL(body)
{
    dXSARGS;
    PERL_UNUSED_VAR(items);
    int number = (int)SvIV(ST(0));
    conformance_body(number);
    XSRETURN_EMPTY;
}

XS_INTERNAL(result)
{
    dXSARGS;
    PERL_UNUSED_VAR(items);
    conformance_result((int)SvIV(ST(0)), SvUV(ST(1)));
    XSRETURN_EMPTY;
}

XS_INTERNAL(timers)
{
    dXSARGS;
    PERL_UNUSED_VAR(items);
    int again = conformance_timers((int)SvIV(ST(0)));
    XSRETURN_IV(again);
}

XS_INTERNAL(finish)
{
    dXSARGS;
    PERL_UNUSED_VAR(items);
    int status = conformance_end();
    XSRETURN_IV(status);
}

XS_EXTERNAL(boot_Checks)
{
    dXSARGS;
    PERL_UNUSED_VAR(items);
    newXS("Checks::begin", begin, __FILE__);
    newXS("Checks::body", body, __FILE__);
    newXS("Checks::result", result, __FILE__);
    newXS("Checks::timers", timers, __FILE__);
    newXS("Checks::finish", finish, __FILE__);
    XSRETURN_YES;
}
