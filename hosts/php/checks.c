/* SPDX-License-Identifier: MIT */
/* The conformance test as an extension of PHP: conformance.php calls it. */
#include <php.h>

#include <sys/wait.h>
#include <unistd.h>

#include "conformance.h"

ZEND_BEGIN_ARG_INFO_EX(some_arguments, 0, 0, 0)
ZEND_ARG_VARIADIC_INFO(0, arguments)
ZEND_END_ARG_INFO()

PHP_FUNCTION(begin)
{
    zval *words;
    uint32_t count;
    char *copies[8] = { "conformance" };
    ZEND_PARSE_PARAMETERS_START(0, -1)
    Z_PARAM_VARIADIC('*', words, count)
    ZEND_PARSE_PARAMETERS_END();
    for (uint32_t i = 0; i < count && i < 7; i++)
        copies[i + 1] = zval_get_string(&words[i])->val;
    RETURN_LONG(conformance_begin((int)count + 1, copies));
}

PHP_FUNCTION(body)
{
    zend_long number;
    ZEND_PARSE_PARAMETERS_START(1, 1)
    Z_PARAM_LONG(number)
    ZEND_PARSE_PARAMETERS_END();
    conformance_body((int)number);
}

PHP_FUNCTION(result)
{
    zend_long number, value;
    ZEND_PARSE_PARAMETERS_START(2, 2)
    Z_PARAM_LONG(number)
    Z_PARAM_LONG(value)
    ZEND_PARSE_PARAMETERS_END();
    conformance_result((int)number, (uint64_t)value);
}

PHP_FUNCTION(finish)
{
    ZEND_PARSE_PARAMETERS_NONE();
    RETURN_LONG(conformance_end());
}

static pid_t child;
static int end_of_child[2]; /* a pipe: it ends when the parent has closed its end */

/* Waits for a child that outlives the request. */
PHP_FUNCTION(wait_for_child)
{
    char byte;
    ZEND_PARSE_PARAMETERS_NONE();
    if (pipe(end_of_child) != 0 || (child = fork()) < 0)
        _exit(3);
    if (child == 0) {
        close(end_of_child[1]);
        _exit(read(end_of_child[0], &byte, 1) == 0 ? 0 : 4);
    }
    RETURN_LONG(waitpid(child, NULL, 0));
}

/* After the request: its calls must have ended. One that still waits for the child would reap it,
 * and store its status in memory that PHP has freed. */
static int after_request(void)
{
    siginfo_t ended;
    if (child == 0)
        return SUCCESS;
    close(end_of_child[1]);
    waitid(P_PID, (id_t)child, &ended, WEXITED | WNOWAIT);
    usleep(100000);
    if (waitpid(child, NULL, WNOHANG) != child) {
        fprintf(stderr, "conformance: a call of the ended request has reaped the child\n");
        _exit(3);
    }
    return SUCCESS;
}

static const zend_function_entry functions[] = {
    ZEND_NS_FE("Checks", begin, some_arguments) ZEND_NS_FE("Checks", body, some_arguments)
        ZEND_NS_FE("Checks", result, some_arguments) ZEND_NS_FE("Checks", finish, some_arguments)
            ZEND_NS_FE("Checks", wait_for_child, some_arguments) PHP_FE_END
};

zend_module_entry checks_module_entry = {
    STANDARD_MODULE_HEADER,
    "checks",
    functions,
    NULL,
    NULL,
    NULL,
    NULL,
    NULL,
    "0.1",
    NO_MODULE_GLOBALS,
    after_request,
    STANDARD_MODULE_PROPERTIES_EX,
};

ZEND_GET_MODULE(checks)
