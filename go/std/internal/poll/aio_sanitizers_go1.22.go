// SPDX-License-Identifier: MIT

// Package poll, asynchronous file I/O: what the race detector and the memory
// sanitizers are told of a transfer, up to Go 1.22, where package syscall has the
// functions.

//go:build linux && (amd64 || arm64)

package poll

import (
	"internal/race"
	"unsafe"
)

func syscall_aioRaceRead()
func syscall_aioRaceWrite()

//go:linkname msanRead syscall.msanRead
func msanRead(addr unsafe.Pointer, n int)

//go:linkname msanWrite syscall.msanWrite
func msanWrite(addr unsafe.Pointer, n int)

//go:linkname asanRead syscall.asanRead
func asanRead(addr unsafe.Pointer, n int)

//go:linkname asanWrite syscall.asanWrite
func asanWrite(addr unsafe.Pointer, n int)

// sanitizerWrites says that a read has stored p.
func sanitizerWrites(p []byte) {
	if race.Enabled {
		syscall_aioRaceRead()
	}
	if len(p) == 0 {
		return
	}
	if race.Enabled {
		race.WriteRange(unsafe.Pointer(&p[0]), len(p))
	}
	msanWrite(unsafe.Pointer(&p[0]), len(p))
	asanWrite(unsafe.Pointer(&p[0]), len(p))
}

// sanitizerReads says that a write will load p.
func sanitizerReads(p []byte) {
	if race.Enabled {
		syscall_aioRaceWrite()
		race.ReadRange(unsafe.Pointer(&p[0]), len(p))
	}
	msanRead(unsafe.Pointer(&p[0]), len(p))
	asanRead(unsafe.Pointer(&p[0]), len(p))
}
