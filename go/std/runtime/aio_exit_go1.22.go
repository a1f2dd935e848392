// SPDX-License-Identifier: MIT

// Package runtime, asynchronous file I/O: the call at exit, up to Go 1.22.

//go:build linux && (amd64 || arm64)

package runtime

import _ "unsafe" // for go:linkname

// aioAtExit has f called when the program exits.
//
//go:linkname aioAtExit internal/poll.runtime_aioAtExit
func aioAtExit(f func()) { addExitHook(f, true) }
