// SPDX-License-Identifier: MIT

// Package poll, asynchronous file I/O: the environment variables, which are
// those of the preloaded library.

//go:build linux && (amd64 || arm64)

package poll

import (
	"sync"
	"syscall"
)

// aioSettings are read once, at the first call that needs them.
type aioSettings struct {
	on     bool
	engine engine // as chosen; engineAuto is the default
	stats  statsFormat
	out    string // file for statistics; empty is standard error
}

var aioEnvironment struct {
	once sync.Once
	aioSettings
}

// aioOptions returns the settings.
func aioOptions() *aioSettings {
	aioEnvironment.once.Do(aioReadOptions)
	return &aioEnvironment.aioSettings
}

var engineWords = []struct {
	word   string
	engine engine
}{
	{"auto", engineAuto},
	{"uring", engineUring},
	{"aio", engineLinuxAIO},
	{"block", engineBlock},
	{"threads", engineBlock}, // the preloaded library's word
	{"sync", engineSync},
}

func aioReadOptions() {
	o := &aioEnvironment.aioSettings
	if runtime_aioSecure() {
		// The process has more rights than its caller, whose variables are
		// not to be trusted.
		return
	}
	o.on = true
	if v, ok := syscall.Getenv("AIOSHIM"); ok {
		switch v {
		case "off", "0":
			o.on = false
		case "on", "1":
		default:
			aioBadValue("AIOSHIM", v, "on or off, or 1 or 0")
		}
	}
	if v, ok := syscall.Getenv("AIOSHIM_ENGINE"); ok {
		known := false
		for _, w := range engineWords {
			if v == w.word {
				o.engine, known = w.engine, true
			}
		}
		if !known {
			aioBadValue("AIOSHIM_ENGINE", v, "auto, uring, aio, block or sync")
		}
	}
	o.out, _ = syscall.Getenv("AIOSHIM_OUT")
	if v, ok := syscall.Getenv("AIOSHIM_STATS"); ok {
		switch v {
		case "0":
		case "1":
			o.stats = statsLine
		case "json":
			o.stats = statsJSON
		default:
			aioBadValue("AIOSHIM_STATS", v, "0, 1 or json")
		}
	}
	if o.stats != statsOff {
		aioCounting = true
		runtime_aioAtExit(aioReport)
	}
}

// aioBadValue reports a bad value; the default is used.
func aioBadValue(name, value, takes string) {
	line := "aioshim-go: " + name + "=" + value + ": expected " + takes + "; using the default\n"
	syscall.Write(2, []byte(line))
}
