/* SPDX-License-Identifier: MIT */
/* The conformance test as an extension of PHP: conformance.php calls it. */
#include <php.h>

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

static const zend_function_entry functions[] = {
    ZEND_NS_FE("Checks", begin, some_arguments) ZEND_NS_FE("Checks", body, some_arguments)
        ZEND_NS_FE("Checks", result, some_arguments) ZEND_NS_FE("Checks", finish, some_arguments)
            PHP_FE_END
};

zend_module_entry checks_module_entry = {
    STANDARD_MODULE_HEADER,     "checks", functions, NULL, NULL, NULL, NULL, NULL, "0.1",
    STANDARD_MODULE_PROPERTIES,
};

ZEND_GET_MODULE(checks)
