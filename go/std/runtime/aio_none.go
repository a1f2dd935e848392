// SPDX-License-Identifier: MIT

// Package runtime, asynchronous file I/O: systems that have none.

//go:build !linux || !(amd64 || arm64)

package runtime

import "unsafe"

func aioInUse() bool                         { return false }
func aioReap(*gList) int32                   { return 0 }
func aioNetpoll(*gList, *int32, *int32) bool { return false }
func aioEvent(unsafe.Pointer) bool           { return false }
func aioPollDescriptor(uintptr) bool         { return false }
func aioHandoff() bool                       { return false }
func aioSchedule() *g                        { return nil }
func aioSysmon(int64)                        {}
func aioDelay(delay uint32) uint32           { return delay }
