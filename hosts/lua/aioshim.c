/* SPDX-License-Identifier: MIT */
/* aioshim - a module for Lua 5.4: functions that run at the same time although they make plain
 * blocking calls, through io.*, os.* or any C module.
 *
 * Lua's own coroutines cannot be left in the middle of a C function. Therefore each function here
 * runs in a Lua coroutine that is resumed on a C stack of its own, a coroutine of ../template. */
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>

#include "scheduler.h"

struct task {
    lua_State *state;
    int arguments;
    int reference; /* keeps the state alive */
};

/* The message of the first function that failed, or LUA_NOREF. */
static int first_error = LUA_NOREF;

/* The states of all tasks share one registry, and only one of them runs at a time. */
static void run_task(void *arg)
{
    struct task *task = arg;
    lua_State *L = task->state;
    int status, results;
    while ((status = lua_resume(L, NULL, task->arguments, &results)) == LUA_YIELD) {
        lua_pop(L, results);
        task->arguments = 0;
        coroutine_yield();
    }
    if (status != LUA_OK && first_error == LUA_NOREF) {
        luaL_traceback(L, L, lua_tostring(L, -1), 0);
        first_error = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    luaL_unref(L, LUA_REGISTRYINDEX, task->reference);
    free(task);
}

/* aioshim.spawn(function, ...): the function will be called with these arguments by aioshim.run. */
static int spawn(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    struct task *task = malloc(sizeof *task);
    if (!task)
        return luaL_error(L, "not enough memory");
    task->arguments = lua_gettop(L) - 1;
    task->state = lua_newthread(L);
    task->reference = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_xmove(L, task->state, task->arguments + 1);
    if (coroutine_spawn(run_task, task) != 0) {
        luaL_unref(L, LUA_REGISTRYINDEX, task->reference);
        free(task);
        return luaL_error(L, "no memory for a stack");
    }
    return 0;
}

/* aioshim.run(): returns when all functions have ended; raises the first error of one. */
static int run(lua_State *L)
{
    coroutine_run();
    if (first_error == LUA_NOREF)
        return 0;
    lua_rawgeti(L, LUA_REGISTRYINDEX, first_error);
    luaL_unref(L, LUA_REGISTRYINDEX, first_error);
    first_error = LUA_NOREF;
    return lua_error(L);
}

int luaopen_aioshim(lua_State *L)
{
    static const luaL_Reg functions[] = { { "spawn", spawn }, { "run", run }, { NULL, NULL } };
    luaL_newlib(L, functions);
    return 1;
}
