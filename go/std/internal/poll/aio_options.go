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
	for _, variable := range syscall.Environ() {
		if name, value := cut(variable, '='); value != "" && startsWith(name, "AIOSHIM") {
			o.set(name, value)
		}
	}
	if o.stats != statsOff {
		aioCounting.Store(true)
		runtime_aioAtExit(aioReport)
	}
}

// set sets the option of this name. A mistake is reported in one line; then the default is
// used.
func (o *aioSettings) set(name, value string) {
	takes := ""
	switch name {
	case "AIOSHIM":
		o.on = value == "on" || value == "1"
		if !o.on && value != "off" && value != "0" {
			o.on, takes = true, "on or off, or 1 or 0"
		}
	case "AIOSHIM_ENGINE":
		takes = "auto, uring, aio, block or sync"
		for _, w := range engineWords {
			if value == w.word {
				o.engine, takes = w.engine, ""
			}
		}
	case "AIOSHIM_OUT":
		o.out = value
	case "AIOSHIM_STATS":
		switch value {
		case "0":
		case "1":
			o.stats = statsLine
		case "json":
			o.stats = statsJSON
		default:
			takes = "0, 1 or json"
		}
	default:
		aioUnknownName(name)
	}
	if takes != "" {
		aioComplain(name + "=" + value + ": expected " + takes + "; using the default")
	}
}

// aioUnknownName reports a name that is no option. Options of the preloaded library that
// mean nothing here, and names of its tests and its launcher, are not reported.
func aioUnknownName(name string) {
	if !startsWith(name, "AIOSHIM_") || startsWith(name, "AIOSHIM_TEST_") ||
		name == "AIOSHIM_LIBDIR" {
		return
	}
	nearest, least := "", 4
	for _, option := range aioOptionNames {
		if option == name {
			return
		}
		if d := distance(option, name); d < least {
			nearest, least = option, d
		}
	}
	line := name + ": no such option; ignored"
	if nearest != "" {
		line += "; did you mean " + nearest + "?"
	}
	aioComplain(line)
}

func aioComplain(line string) { syscall.Write(2, []byte("aioshim-go: "+line+"\n")) }

// distance returns how many letters must be added, removed or replaced to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			least := min(row[j], row[j+1]) + 1
			if a[i] == b[j] {
				least = min(least, before)
			} else {
				least = min(least, before+1)
			}
			before, row[j+1] = row[j+1], least
		}
	}
	return row[len(b)]
}

func startsWith(s, prefix string) bool { return len(s) >= len(prefix) && s[:len(prefix)] == prefix }

// cut splits s at the first c.
func cut(s string, c byte) (before, after string) {
	for i := range len(s) {
		if s[i] == c {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}
