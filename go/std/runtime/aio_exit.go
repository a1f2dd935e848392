// SPDX-License-Identifier: MIT

// Package runtime, asynchronous file I/O: the call at exit.

//go:build linux && (amd64 || arm64)

package runtime

import (
	"internal/runtime/exithook"
	_ "unsafe" // for go:linkname
)

// aioAtExit has f called when the program exits.
//
//go:linkname aioAtExit internal/poll.runtime_aioAtExit
func aioAtExit(f func()) { exithook.Add(exithook.Hook{F: f, RunOnFailure: true}) }
