/* SPDX-License-Identifier: MIT */
/* The conformance test as a Lua module: conformance.lua calls it. */
#include <lauxlib.h>
#include <lua.h>

#include "conformance.h"

static int begin(lua_State *L)
{
    char *arguments[5] = { "conformance" };
    int count = lua_gettop(L) + 1;
    luaL_argcheck(L, count <= 4, 1, "too many arguments");
    for (int i = 1; i < count; i++)
        arguments[i] = (char *)luaL_checkstring(L, i);
    lua_pushinteger(L, conformance_begin(count, arguments));
    return 1;
}

static int body(lua_State *L)
{
    conformance_body((int)luaL_checkinteger(L, 1));
    return 0;
}

static int end(lua_State *L)
{
    lua_pushinteger(L, conformance_end());
    return 1;
}

static int wait(lua_State *L)
{
    (void)L;
    conformance_wait();
    return 0;
}

static int result(lua_State *L)
{
    conformance_result((int)luaL_checkinteger(L, 1), (uint64_t)luaL_checkinteger(L, 2));
    return 0;
}

int luaopen_checks(lua_State *L)
{
    static const luaL_Reg functions[] = { { "begin", begin },   { "body", body }, { "finish", end },
                                          { "result", result }, { "wait", wait }, { NULL, NULL } };
    luaL_newlib(L, functions);
    return 1;
}
