// SPDX-License-Identifier: MIT

// Package poll, asynchronous file I/O: what the race detector and the memory
// sanitizers are told of a transfer.

//go:build linux && (amd64 || arm64)

package poll

import (
	"internal/asan"
	"internal/msan"
	"internal/race"
	"unsafe"
)

func syscall_aioRaceRead()
func syscall_aioRaceWrite()

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
	if msan.Enabled {
		msan.Write(unsafe.Pointer(&p[0]), uintptr(len(p)))
	}
	if asan.Enabled {
		asan.Write(unsafe.Pointer(&p[0]), uintptr(len(p)))
	}
}

// sanitizerReads says that a write will load p.
func sanitizerReads(p []byte) {
	if race.Enabled {
		syscall_aioRaceWrite()
		race.ReadRange(unsafe.Pointer(&p[0]), len(p))
	}
	if msan.Enabled {
		msan.Read(unsafe.Pointer(&p[0]), uintptr(len(p)))
	}
	if asan.Enabled {
		asan.Read(unsafe.Pointer(&p[0]), uintptr(len(p)))
	}
}
