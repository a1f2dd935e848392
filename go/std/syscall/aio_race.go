// SPDX-License-Identifier: MIT

// Package syscall, asynchronous file I/O: for the race detector, a read comes
// after the writes before it, as with Read and Write.

//go:build linux && (amd64 || arm64)

package syscall

import (
	"internal/race"
	"unsafe"
)

//go:linkname aioRaceRead internal/poll.syscall_aioRaceRead
func aioRaceRead() { race.Acquire(unsafe.Pointer(&ioSync)) }

//go:linkname aioRaceWrite internal/poll.syscall_aioRaceWrite
func aioRaceWrite() { race.ReleaseMerge(unsafe.Pointer(&ioSync)) }
