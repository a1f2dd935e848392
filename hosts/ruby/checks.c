/* SPDX-License-Identifier: MIT */
/* The conformance test as a Ruby module: conformance.rb calls it. */
#include <ruby.h>
#include <ruby/thread.h>

#include "conformance.h"

static VALUE begin(VALUE self, VALUE words)
{
    (void)self;
    char *arguments[8] = { "conformance" };
    long count = RARRAY_LEN(words);
    for (long i = 0; i < count && i < 7; i++) {
        VALUE word = rb_ary_entry(words, i);
        arguments[i + 1] = StringValueCStr(word);
    }
    return INT2NUM(conformance_begin((int)count + 1, arguments));
}

static void *body_without_lock(void *number)
{
    conformance_body((int)(intptr_t)number);
    return NULL;
}

/* Ruby's global lock is held in every second body, and released around the others. */
static VALUE body(VALUE self, VALUE number)
{
    (void)self;
    int n = NUM2INT(number);
    if (n % 2)
        conformance_body(n);
    else
        rb_nogvl(body_without_lock, (void *)(intptr_t)n, NULL, NULL, 0);
    return Qnil;
}

static VALUE result(VALUE self, VALUE number, VALUE value)
{
    (void)self;
    conformance_result(NUM2INT(number), NUM2ULL(value));
    return Qnil;
}

static VALUE timers(VALUE self, VALUE number)
{
    (void)self;
    return conformance_timers(NUM2INT(number)) ? Qtrue : Qfalse;
}

static VALUE finish(VALUE self)
{
    (void)self;
    return INT2NUM(conformance_end());
}

void Init_checks(void)
{
    VALUE module = rb_define_module("Checks");
    rb_define_module_function(module, "begin", begin, 1);
    rb_define_module_function(module, "body", body, 1);
    rb_define_module_function(module, "result", result, 2);
    rb_define_module_function(module, "timers", timers, 1);
    rb_define_module_function(module, "finish", finish, 0);
}
